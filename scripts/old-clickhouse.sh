#!/bin/sh
# Fetches the ClickHouse that Debian ships (18.16), which is too old for the
# migrations, so that a test can see it refused:
#
#	AIONE_OLD_CLICKHOUSE=$(scripts/old-clickhouse.sh) go test -tags oldserver ./migrations
#
# Nothing is installed: packages are unpacked into a cache directory
# ($AIONE_CACHE/old-clickhouse, default ~/.cache/aione/old-clickhouse), and a
# wrapper there, whose path is printed, runs the server with its libraries. Needs
# Debian or Ubuntu with lists of packages; only if those are missing does it need
# root, to fetch them.
set -eu

cache=${AIONE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/aione}/old-clickhouse
server=$cache/clickhouse-server
if [ -x "$server" ]; then
	echo "$server"
	exit
fi
if ! command -v apt-get >/dev/null; then
	echo "old-clickhouse.sh: this machine has no apt-get" >&2
	exit 1
fi
if ! apt-cache show clickhouse-server >/dev/null 2>&1; then
	if [ "$(id -u)" -ne 0 ]; then
		echo "old-clickhouse.sh: no list of packages has clickhouse-server; run apt-get update as root first" >&2
		exit 1
	fi
	apt-get update >&2
fi

# What an installation would add to this machine: the server and those of its
# libraries that are not here. A simulation needs no root.
packages=$(apt-get --simulate --no-install-recommends install clickhouse-server | awk '/^Inst / { print $2 }')

rm -rf "$cache"
mkdir -p "$cache/packages" "$cache/root"
# apt reads its own packages as another user if it can, and says so if it cannot.
(cd "$cache/packages" && apt-get -o APT::Sandbox::User=root download $packages >&2)
for package in "$cache"/packages/*.deb; do
	dpkg-deb -x "$package" "$cache/root"
done
rm -rf "$cache/packages"

libraries=$(find "$cache/root" -name '*.so*' -exec dirname {} + | sort -u | paste -s -d :)
cat >"$server.new" <<WRAPPER
#!/bin/sh
LD_LIBRARY_PATH=$libraries exec $cache/root/usr/sbin/clickhouse-server "\$@"
WRAPPER
chmod +x "$server.new"
mv "$server.new" "$server" # last: it says that all the rest is there
echo "$server"
