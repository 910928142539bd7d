// The server's own page: shows what is served, and sends a request that one can edit.

"use strict";
const LONGEST_ANSWER = 100000;
const at = (id) => document.getElementById(id);
let token = "";
let models = [];

// Everything that the server says goes into the page as text, never as markup.
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function ask(path, options = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  return fetch(path, { ...options, headers, cache: "no-store" });
}

async function read(path) {
  const response = await ask(path);
  if (response.ok) return response.json();
  throw Object.assign(new Error(await response.text()), { status: response.status });
}

const modelPath = (name) => `v1/models/${encodeURIComponent(name)}`;
const whole = (path) => new URL(path, document.baseURI).href;

function copyButton(text) {
  const button = make("button", { type: "button" }, "Copy");
  button.addEventListener("click", () => copy(text, button));
  return button;
}

async function copy(text, button) {
  const label = button.dataset.label ?? (button.dataset.label = button.textContent);
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Copy by hand"; // browsers give no clipboard without TLS, save localhost
  }
  setTimeout(() => { button.textContent = label; }, 2000);
}

// What is served: states and tensors from the API; engines, labels and bodies from /models.

async function describe(model) {
  const { model_version_status: states } = await read(modelPath(model.name));
  const loaded = new Map(model.versions.map((version) => [version.version, version]));
  const versions = states.map((state) => ({ ...state, ...loaded.get(state.version) }));
  await Promise.all(versions.filter((version) => version.signatures).map(async (version) => {
    const path = `${modelPath(model.name)}/versions/${version.version}/metadata`;
    version.tensors = (await read(path)).metadata.signature_def.signature_def;
  }));
  return { ...model, versions };
}

async function load() {
  at("trouble").hidden = true;
  try {
    const found = (await read("models")).models;
    models = await Promise.all(found.map(describe));
    at("key").hidden = true;
    at("models").replaceChildren(...models.map(modelSection));
    fillModels();
  } catch (error) {
    showTrouble(error);
  }
  document.documentElement.dataset.state = "shown";
}

function showTrouble(error) {
  const wantsToken = error.status === 401;
  at("models").replaceChildren();
  at("try").hidden = true;
  at("key").hidden = !wantsToken;
  at("trouble").hidden = wantsToken && !token;
  at("trouble").textContent = wantsToken
    ? "The server did not accept this token."
    : `The server's API gave no answer that this page can read: ${error.message}`;
  if (wantsToken) at("token").focus();
}

const STATE_KIND = { AVAILABLE: "good", START: "unsure", LOADING: "unsure" };

function modelSection(model, index) {
  const id = `model-${index}`;
  const ready = model.latest !== null;
  const url = whole(modelPath(model.name));
  return make("section", { "aria-labelledby": id },
    make("div", { class: "row" },
      make("h2", { id }, model.name),
      make("span", { class: `pill ${ready ? "good" : "bad"}` }, ready ? "serves" : "no version")),
    make("div", { class: "card" },
      versionTable(model),
      make("div", { class: "url" }, make("code", {}, url), copyButton(url)),
      ...model.versions.filter((version) => version.signatures).map(signatureList)));
}

function table(caption, titles, rows) {
  const head = titles.map((title) => make("th", { scope: "col" }, title));
  const lines = rows.map(([first, ...others]) => make("tr", {},
    make("th", { scope: "row" }, ...first),
    ...others.map((cell) => make("td", {}, ...cell))));
  const frame = { class: "frame", tabindex: "0", role: "region", "aria-label": caption };
  return make("div", frame, make("table", {}, make("caption", {}, caption),
    make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...lines)));
}

function versionTable(model) {
  const rows = model.versions.map((version) => {
    const labels = Object.entries(model.labels)
      .filter(([, number]) => number === version.version).map(([label]) => label);
    const names = version.version === model.latest ? ["latest", ...labels] : labels;
    const message = version.status.error_message;
    return [
      [version.version, " ", make("span", { class: "quiet" }, names.join(", "))],
      [make("span", { class: `pill ${message ? "bad" : STATE_KIND[version.state] ?? ""}` },
        version.state), ...(message ? [make("div", { class: "quiet" }, message)] : [])],
      [version.engine ?? "–"],
    ];
  });
  return table(`Versions of ${model.name}`, ["Version", "State", "Engine"], rows);
}

function tensorList(title, tensors) {
  const lines = Object.entries(tensors).map(([name, { dtype, tensor_shape: shape }]) => {
    const sizes = shape.dim.map(({ size }) => size).join(", ");
    const kind = dtype.replace("DT_", "").toLowerCase();
    return make("dd", {}, make("code", {}, name), " ",
      make("span", { class: "quiet whole" }, shape.unknown_rank ? kind : `${kind} [${sizes}]`));
  });
  return make("div", {}, make("dt", {}, title), ...lines);
}

function signatureList(version, index) {
  const parts = version.signatures.map(({ name }) => make("div", { class: "signature" },
    make("h3", {}, make("code", {}, name)),
    make("dl", {}, tensorList("Inputs", version.tensors[name].inputs),
      tensorList("Outputs", version.tensors[name].outputs))));
  return make("details", index === 0 ? { open: "" } : {},
    make("summary", {}, `Signatures of version ${version.version}`), ...parts);
}

// The form. A choice that is still there after a refresh stays; so does a body that was edited.

function fill(select, options) {
  const before = select.value;
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  if (options.some(([value]) => value === before)) select.value = before;
}

const chosenModel = () => models.find((model) => model.name === at("model").value);
const versionOf = (model, choice) => {
  const label = choice.startsWith("/labels/") ? decodeURIComponent(choice.slice(8)) : null;
  const number = label === null ? choice.replace("/versions/", "") : model.labels[label];
  return model.versions.find((version) => version.version === (number || model.latest));
};
const chosenVersion = () => versionOf(chosenModel(), at("version").value);
const chosenSignature = () =>
  chosenVersion().signatures.find((signature) => signature.name === at("signature").value);

function fillModels() {
  const ready = models.filter((model) => model.versions.some((version) => version.signatures));
  at("try").hidden = ready.length === 0;
  if (ready.length === 0) return;
  fill(at("model"), ready.map(({ name }) => [name, name]));
  fillVersions();
}

function fillVersions() {
  const model = chosenModel();
  const choices = [
    ["", "latest"],
    ...model.versions.map(({ version }) => [`/versions/${version}`, version]),
    ...Object.keys(model.labels).map((label) => [`/labels/${encodeURIComponent(label)}`, label]),
  ];
  fill(at("version"), choices.filter(([choice]) => versionOf(model, choice)?.signatures));
  fillSignatures();
}

function fillSignatures() {
  fill(at("signature"), chosenVersion().signatures.map(({ name }) => [name, name]));
  fillMethods();
}

function fillMethods() {
  const signature = chosenSignature();
  const isOther = at("method").dataset.for !== signature.name;
  at("method").dataset.for = signature.name;
  if (isOther) at("method").replaceChildren(); // then its most telling method is chosen, the first
  fill(at("method"), Object.keys(signature.bodies).map((method) => [method, method]));
  fillBody();
}

const HINTS = {
  predict: "",
  classify: "Fill in the example: each feature by its name, a number for a float with its point.",
  regress: "Fill in the example: each feature by its name, a number for a float with its point.",
};

function fillBody() {
  const method = at("method").value;
  at("url").value = whole(`${modelPath(at("model").value)}${at("version").value}:${method}`);
  const made = chosenSignature().bodies[method];
  const edited = at("body").value !== (at("body").dataset.made ?? "");
  if (!edited || at("body").dataset.for !== at("signature").value + method) {
    at("body").value = at("body").dataset.made = made ?? "";
    at("body").dataset.for = at("signature").value + method;
  }
  const hint = made === null ? "Too large, or of a type that JSON has not, to be made up: paste one."
    : HINTS[method];
  at("hint").textContent = hint;
  at("hint").hidden = !hint;
}

async function send(event) {
  event.preventDefault();
  at("send").disabled = true;
  const start = performance.now();
  try {
    const response = await ask(at("url").value, { method: "POST", body: at("body").value });
    const text = await response.text();
    const took = (performance.now() - start).toFixed(1);
    const kind = response.ok ? "good" : "bad";
    const outcome = `${response.status} ${response.statusText}`.trim();
    showResult(kind, outcome, `${took} ms, as seen from here`, text);
  } catch (error) {
    showResult("bad", "No answer", "", String(error.message));
  }
  at("send").disabled = false;
}

function showResult(kind, outcome, took, text) {
  const cut = text.length > LONGEST_ANSWER;
  at("outcome").replaceChildren(make("span", { class: `pill ${kind}` }, outcome),
    make("span", { class: "quiet" }, cut ? `${took}; ${text.length} characters, cut here` : took));
  at("answer").textContent = cut ? text.slice(0, LONGEST_ANSWER) : text;
  at("result").hidden = false;
}

function curl() {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const header = token ? ' -H "Authorization: Bearer $TOKEN"' : "";
  return `curl${header} -d ${quoted(at("body").value)} ${quoted(at("url").value)}`;
}

at("refresh").addEventListener("click", load);
at("key").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  at("token").value = "";
  load();
});
at("model").addEventListener("change", fillVersions);
at("version").addEventListener("change", fillSignatures);
at("signature").addEventListener("change", fillMethods);
at("method").addEventListener("change", fillBody);
at("request").addEventListener("submit", send);
at("copy-url").addEventListener("click", () => copy(at("url").value, at("copy-url")));
at("copy-curl").addEventListener("click", () => copy(curl(), at("copy-curl")));
load();
