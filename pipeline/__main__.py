"""`python -m pipeline` is `stepwell`."""

from pipeline.cli import main

raise SystemExit(main())
