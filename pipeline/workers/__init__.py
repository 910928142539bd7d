"""Worker processes for Beam that stay from pipeline to pipeline.

Beam's own `multi_processing` mode starts its workers anew for every pipeline, and a round of
training is one: each worker would import TensorFlow and load the programs again, every round. Here
the processes stay, with what they have imported, loaded and read. Two doors lead to them: `runner`,
for the pipelines of this process, and `pool`, for runners elsewhere (Beam's EXTERNAL environment).
"""
