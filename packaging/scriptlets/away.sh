# The SELinux module goes with the package; a machine without the tools never had it.
if command -v semodule >/dev/null 2>&1 && semodule -l 2>/dev/null | grep -qx crioxide; then
  semodule -X 200 -r crioxide || true
fi
