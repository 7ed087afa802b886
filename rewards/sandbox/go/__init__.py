"""Programs and tests in Go: the toolchain, the files of a run, and the assertions of testify."""
