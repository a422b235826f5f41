"""The version that manifests name."""

VERSION = "0.3.0"
