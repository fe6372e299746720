#!/usr/bin/env bash
# Take the picture of a report that the README shows. Usage: scripts/report_picture.sh runs/quickstart/report.html docs/report.png
set -euo pipefail
chromium --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update \
  --disable-sync --user-data-dir="$(mktemp -d)" --hide-scrollbars --window-size="${3:-1200,1500}" --screenshot="$2" "file://$(realpath "$1")"
