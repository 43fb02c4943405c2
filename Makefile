# Build and install with the usual variables:
#
#   make                                  the library and the program
#   make library                          the shared library, for C hosts and for Mosquitto
#   make program                          the stand-alone program
#   make install PREFIX=/usr DESTDIR=/tmp/package
#   make packages                         .deb and .rpm, see RELEASING.md
#   make sbom                             bill of materials, as CycloneDX
#
# `make install` builds the library if it is missing, and also installs the program if it has been built.
# Both are installed without debug information (STRIP=: keeps it).
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DATADIR ?= $(PREFIX)/share
MANDIR ?= $(DATADIR)/man
DOCDIR ?= $(DATADIR)/doc/lwm2m-gateway
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
DESTDIR ?=
CARGO ?= cargo
INSTALL ?= install
STRIP ?= strip --strip-unneeded

# A separate folder: the library for hosts is built without the stand-alone broker.
TARGET_DIR ?= target
LIBRARY ?= $(TARGET_DIR)/host/release/liblwm2m_gateway.so
PROGRAM ?= $(TARGET_DIR)/release/lwm2m-gateway

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
ABI := $(shell sed -n 's/^\#define LWM2M_GATEWAY_ABI_VERSION //p' include/lwm2m_gateway.h)
LIBNAME := liblwm2m_gateway.so

.PHONY: all library program install uninstall check packages sbom

all: library program

library:
	$(CARGO) build --release --locked --no-default-features --features http --lib --target-dir $(TARGET_DIR)/host

program:
	$(CARGO) build --release --locked --target-dir $(TARGET_DIR)

$(TARGET_DIR)/host/release/liblwm2m_gateway.so:
	$(MAKE) library

packages: all
	packaging/packages.sh --program $(PROGRAM) --library $(LIBRARY) --output $(TARGET_DIR)/packages

sbom:
	packaging/sbom.sh $(TARGET_DIR)/packages

check:
	bash tests/run.sh

# Where the files go, below DESTDIR.
lib = $(DESTDIR)$(LIBDIR)
cmake = $(lib)/cmake/lwm2m_gateway
share = $(DESTDIR)$(DATADIR)/lwm2m-gateway
man = $(DESTDIR)$(MANDIR)/man1
doc = $(DESTDIR)$(DOCDIR)
unit = $(DESTDIR)$(UNITDIR)
sysusers = $(DESTDIR)$(SYSUSERSDIR)

fill = sed -e 's|@VERSION@|$(VERSION)|g' -e 's|@ABI@|$(ABI)|g' -e 's|@PREFIX@|$(PREFIX)|g' \
	-e 's|@LIBDIR@|$(LIBDIR)|g' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|g' \
	-e "s|@TO_INCLUDE@|$$(realpath -m --relative-to=$(LIBDIR)/cmake/lwm2m_gateway $(INCLUDEDIR))|g"

install: $(LIBRARY)
	$(INSTALL) -d $(lib)/pkgconfig $(cmake) $(DESTDIR)$(INCLUDEDIR) $(man) \
		$(share)/objects $(share)/examples $(doc)/docs/guide
	$(INSTALL) -m 755 $(LIBRARY) $(lib)/$(LIBNAME).$(VERSION)
	$(STRIP) $(lib)/$(LIBNAME).$(VERSION)
	ln -sf $(LIBNAME).$(VERSION) $(lib)/$(LIBNAME).$(ABI)
	ln -sf $(LIBNAME).$(ABI) $(lib)/$(LIBNAME)
	$(INSTALL) -m 644 include/lwm2m_gateway.h $(DESTDIR)$(INCLUDEDIR)
	$(fill) packaging/lwm2m_gateway.pc.in >$(lib)/pkgconfig/lwm2m_gateway.pc
	$(fill) packaging/cmake/config.cmake.in >$(cmake)/lwm2m_gateway-config.cmake
	$(fill) packaging/cmake/version.cmake.in >$(cmake)/lwm2m_gateway-config-version.cmake
	$(INSTALL) -m 644 priv/lwm2m_xml/*.xml $(share)/objects
	$(INSTALL) -m 644 priv/oma/NOTICE $(share)/NOTICE.oma
	$(INSTALL) -m 644 examples/c/host.c packaging/gateway.toml packaging/psk $(share)/examples
	$(fill) packaging/mosquitto.conf >$(share)/examples/mosquitto.conf
	$(INSTALL) -m 644 packaging/lwm2m-gateway.1 $(man)
	$(INSTALL) -m 644 docs/*.md $(doc)/docs
	$(INSTALL) -m 644 docs/guide/*.md $(doc)/docs/guide
	$(INSTALL) -m 644 README.md CHANGELOG.md SECURITY.md LICENSE-MIT LICENSE-APACHE $(doc)
	@if test -f $(PROGRAM); then \
		set -x; $(INSTALL) -d $(DESTDIR)$(BINDIR) $(unit) $(sysusers) && \
		$(INSTALL) -m 755 $(PROGRAM) $(DESTDIR)$(BINDIR) && \
		$(STRIP) $(DESTDIR)$(BINDIR)/lwm2m-gateway && \
		$(INSTALL) -m 644 packaging/service.toml $(share)/examples && \
		$(INSTALL) -m 644 packaging/lwm2m-gateway.sysusers $(sysusers)/lwm2m-gateway.conf && \
		sed -e 's|/usr/bin/|$(BINDIR)/|' -e 's|/usr/share/doc/lwm2m-gateway|$(DOCDIR)|' \
			packaging/lwm2m-gateway.service >$(unit)/lwm2m-gateway.service; \
	fi

uninstall:
	rm -f $(lib)/$(LIBNAME) $(lib)/$(LIBNAME).* $(lib)/pkgconfig/lwm2m_gateway.pc
	rm -f $(DESTDIR)$(INCLUDEDIR)/lwm2m_gateway.h $(man)/lwm2m-gateway.1
	rm -f $(DESTDIR)$(BINDIR)/lwm2m-gateway
	rm -f $(unit)/lwm2m-gateway.service $(sysusers)/lwm2m-gateway.conf
	rm -rf $(cmake) $(share) $(doc)
