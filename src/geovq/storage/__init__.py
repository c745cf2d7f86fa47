"""Files that are whole or absent: atomic writes, hashed artefacts, the run folder."""
