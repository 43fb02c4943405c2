# Build and install with the usual variables:
#
#   make                                  the two below
#   make library                          the shared library, for C hosts and for Mosquitto
#   make program                          the stand-alone program
#   make install PREFIX=/usr DESTDIR=/tmp/package
#
# `make install` builds the library if it is not there, and installs the program if it is.
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DATADIR ?= $(PREFIX)/share
MANDIR ?= $(DATADIR)/man
DESTDIR ?=
CARGO ?= cargo
INSTALL ?= install

# Of its own: the library for hosts has no stand-alone broker in it, the one beside the program has.
TARGET_DIR ?= target
LIBRARY ?= $(TARGET_DIR)/host/release/liblwm2m_gateway.so
PROGRAM ?= $(TARGET_DIR)/release/lwm2m-gateway

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
ABI := $(shell sed -n 's/^\#define LWM2M_GATEWAY_ABI_VERSION //p' include/lwm2m_gateway.h)
LIBNAME := liblwm2m_gateway.so

.PHONY: all library program install uninstall check

all: library program

library:
	$(CARGO) build --release --locked --no-default-features --lib --target-dir $(TARGET_DIR)/host

program:
	$(CARGO) build --release --locked --target-dir $(TARGET_DIR)

$(TARGET_DIR)/host/release/liblwm2m_gateway.so:
	$(MAKE) library

check:
	bash tests/run.sh

# Where the files go, below DESTDIR.
lib = $(DESTDIR)$(LIBDIR)
cmake = $(lib)/cmake/lwm2m_gateway
share = $(DESTDIR)$(DATADIR)/lwm2m-gateway
man = $(DESTDIR)$(MANDIR)/man1

fill = sed -e 's|@VERSION@|$(VERSION)|g' -e 's|@ABI@|$(ABI)|g' -e 's|@PREFIX@|$(PREFIX)|g' \
	-e 's|@LIBDIR@|$(LIBDIR)|g' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|g' \
	-e "s|@TO_INCLUDE@|$$(realpath -m --relative-to=$(LIBDIR)/cmake/lwm2m_gateway $(INCLUDEDIR))|g"

install: $(LIBRARY)
	$(INSTALL) -d $(lib)/pkgconfig $(cmake) $(DESTDIR)$(INCLUDEDIR) $(man) \
		$(share)/objects $(share)/examples
	$(INSTALL) -m 755 $(LIBRARY) $(lib)/$(LIBNAME).$(VERSION)
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
	@if test -f $(PROGRAM); then \
		set -x; $(INSTALL) -d $(DESTDIR)$(BINDIR) && $(INSTALL) -m 755 $(PROGRAM) $(DESTDIR)$(BINDIR); \
	fi

uninstall:
	rm -f $(lib)/$(LIBNAME) $(lib)/$(LIBNAME).* $(lib)/pkgconfig/lwm2m_gateway.pc
	rm -f $(DESTDIR)$(INCLUDEDIR)/lwm2m_gateway.h $(man)/lwm2m-gateway.1
	rm -f $(DESTDIR)$(BINDIR)/lwm2m-gateway
	rm -rf $(cmake) $(share)
