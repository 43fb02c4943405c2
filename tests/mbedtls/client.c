/* A DTLS client on Mbed TLS 3.6 with connection ids (RFC 9146), to show that the gateway speaks them with
 * somebody else's code. It makes one handshake, sends a CoAP ping from a new port so many times, and
 * expects the Reset that answers each.
 *
 *   mbedtls_client PORT IDENTITY HEXKEY SUITE OWN_ID_BYTES MOVES
 */
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mbedtls/ctr_drbg.h"
#include "mbedtls/entropy.h"
#include "mbedtls/net_sockets.h"
#include "mbedtls/ssl.h"
#include "mbedtls/timing.h"
#include "psa/crypto.h"

static int fd = -1;
static struct sockaddr_in server;

static void move(void) {
    int old = fd;
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *) &server, sizeof server) != 0) exit(3);
    /* Only now, so that the port is another one. */
    if (old >= 0) close(old);
}

static int transmit(void *context, const unsigned char *bytes, size_t length) {
    (void) context;
    return (int) send(fd, bytes, length, 0);
}

static int receive(void *context, unsigned char *bytes, size_t length, uint32_t timeout) {
    struct pollfd ready = {fd, POLLIN, 0};
    (void) context;
    int found = poll(&ready, 1, timeout ? (int) timeout : -1);
    if (found <= 0) return MBEDTLS_ERR_SSL_TIMEOUT;
    return (int) recv(fd, bytes, length, 0);
}

static void check(const char *what, int result) {
    if (result != 0) {
        fprintf(stderr, "%s: -0x%04x\n", what, -result);
        exit(1);
    }
}

int main(int count, char **arguments) {
    if (count != 7) return 2;
    int own = atoi(arguments[5]), moves = atoi(arguments[6]);
    unsigned char key[64], id[32];
    size_t key_length = strlen(arguments[3]) / 2;
    for (size_t n = 0; n < key_length && n < sizeof key; n++) {
        unsigned byte;
        sscanf(arguments[3] + 2 * n, "%2x", &byte);
        key[n] = (unsigned char) byte;
    }
    memset(id, 0x5a, sizeof id);
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t) atoi(arguments[1]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    move();

    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_ssl_config config;
    mbedtls_ssl_context ssl;
    mbedtls_timing_delay_context timer;
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&random);
    mbedtls_ssl_config_init(&config);
    mbedtls_ssl_init(&ssl);
    if (psa_crypto_init() != PSA_SUCCESS) return 3;
    check("seed", mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0));
    check("defaults", mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT,
                                                  MBEDTLS_SSL_TRANSPORT_DATAGRAM,
                                                  MBEDTLS_SSL_PRESET_DEFAULT));
    mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &random);
    int suites[] = {mbedtls_ssl_get_ciphersuite_id(arguments[4]), 0};
    mbedtls_ssl_conf_ciphersuites(&config, suites);
    check("psk", mbedtls_ssl_conf_psk(&config, key, key_length,
                                      (const unsigned char *) arguments[2], strlen(arguments[2])));
    mbedtls_ssl_conf_read_timeout(&config, 5000);
    check("ids", mbedtls_ssl_conf_cid(&config, (size_t) own, MBEDTLS_SSL_UNEXPECTED_CID_IGNORE));
    check("setup", mbedtls_ssl_setup(&ssl, &config));
    check("id", mbedtls_ssl_set_cid(&ssl, MBEDTLS_SSL_CID_ENABLED, id, (size_t) own));
    mbedtls_ssl_set_bio(&ssl, NULL, transmit, NULL, receive);
    mbedtls_ssl_set_timer_cb(&ssl, &timer, mbedtls_timing_set_delay, mbedtls_timing_get_delay);

    int result;
    do {
        result = mbedtls_ssl_handshake(&ssl);
    } while (result == MBEDTLS_ERR_SSL_WANT_READ || result == MBEDTLS_ERR_SSL_WANT_WRITE);
    check("handshake", result);
    int enabled = 0;
    unsigned char peer[MBEDTLS_SSL_CID_OUT_LEN_MAX];
    size_t peer_length = 0;
    check("peer's id", mbedtls_ssl_get_peer_cid(&ssl, &enabled, peer, &peer_length));
    printf("suite %s, ids %s, %zu bytes\n", mbedtls_ssl_get_ciphersuite(&ssl),
           enabled ? "agreed on" : "not agreed on", enabled ? peer_length : 0);

    int answered = 0;
    for (int n = 0; n <= moves; n++) {
        unsigned char ping[4] = {0x40, 0, (unsigned char) (n >> 8), (unsigned char) n}, answer[64];
        if (n > 0) move();
        if (mbedtls_ssl_write(&ssl, ping, sizeof ping) != (int) sizeof ping) break;
        result = mbedtls_ssl_read(&ssl, answer, sizeof answer);
        if (result == 4 && answer[0] == 0x70 && memcmp(answer + 2, ping + 2, 2) == 0) answered++;
    }
    printf("answered %d of %d\n", answered, moves + 1);
    mbedtls_ssl_close_notify(&ssl);
    return enabled && answered == moves + 1 ? 0 : 1;
}
