"""One module and one function a stage, named like the stage."""
