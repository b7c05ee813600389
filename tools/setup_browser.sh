#!/usr/bin/env bash
# Installs what the browser tests need and this machine lacks: Chromium and npm from Debian's packages, axe-core (the
# accessibility rules) from npm into .browser/. What is there already is left as it is; everything comes by its name
# through the machine's own package tools, nothing by an address.
set -euo pipefail
cd "$(dirname "$0")/.."

AXE=4.14.1
FOLDER=.browser

have() { command -v "$1" > /dev/null 2>&1; }

stop() { echo "setup_browser: $1" >&2; exit 1; }

debian() {  # debian PACKAGE: installs it where apt is there and we may
	have apt-get || stop "$1 is missing and apt-get is not here; install $1 with your system's package tool."
	local sudo=()
	if [ "$(id -u)" != 0 ]; then
		have sudo || stop "$1 is missing; run 'apt-get install $1' as root."
		sudo=(sudo)
	fi
	"${sudo[@]}" apt-get update -qq
	"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$1" > /dev/null
}

axe_version() {
	sed -n 's/^ *"version": *"\([^"]*\)".*/\1/p' "$FOLDER/node_modules/axe-core/package.json" 2> /dev/null | head -n 1
}

have chromium || have chromium-browser || have google-chrome || debian chromium
if [ "$(axe_version)" != "$AXE" ]; then
	have npm || debian npm
	mkdir -p "$FOLDER"
	npm install --prefix "$FOLDER" --no-save --no-package-lock --ignore-scripts --no-audit --no-fund --silent "axe-core@$AXE" ||
		stop "npm could not install axe-core $AXE; see its message above."
fi
echo "Chromium and axe-core $AXE are ready for the browser tests."
