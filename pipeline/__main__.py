"""`python -m pipeline` is `stepwell`."""

from pipeline.cli.app import main

raise SystemExit(main())
