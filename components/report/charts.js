// Draws every chart of the page again with Vega, at the size of its place and with tooltips.
// The static picture keeps its place: it is what is printed and read aloud, and what stays if
// anything fails here.
(() => {
  "use strict";

  const theme = JSON.parse(document.getElementById("chart-theme").textContent);
  const options = {
    renderer: "svg",
    actions: false,
    ast: true, // expressions are interpreted: the page allows no eval
    defaultStyle: false,
    tooltip: { disableDefaultStyle: true },
    config: { ...theme, font: getComputedStyle(document.body).fontFamily },
  };

  const draw = async (chart) => {
    const spec = JSON.parse(chart.querySelector("script").textContent);
    const live = document.createElement("div");
    live.className = "live";
    live.setAttribute("aria-hidden", "true");
    chart.append(live);
    try {
      await vegaEmbed(live, { ...spec, width: "container", height: "container" }, options);
      chart.classList.add("is-live");
    } catch (error) {
      live.remove();
      console.error(`The chart ${chart.id} stays a picture:`, error);
    }
  };

  const drawAll = async () => {
    for (const chart of document.querySelectorAll(".chart")) await draw(chart);
    document.documentElement.dataset.charts = "drawn";
  };

  drawAll();
})();
