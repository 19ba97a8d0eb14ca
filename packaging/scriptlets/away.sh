# The SELinux module goes with the package; a machine without the tools never had it. It stays under containers that
# run: their root would lose a capability on the spot (dac_override), and pods outlive the package.
if command -v semodule >/dev/null 2>&1 && semodule -l 2>/dev/null | grep -qx crioxide; then
  if grep -qs ':container_t:' /proc/[0-9]*/attr/current; then
    echo "crioxide: containers run, so its SELinux module stays; once they are gone: semodule -X 200 -r crioxide" >&2
  else
    semodule -X 200 -r crioxide || true
  fi
fi
