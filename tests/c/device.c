#define _POSIX_C_SOURCE 200809L

#include "device.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum {
    CON = 0x40, ACK = 0x60, /* first byte without the token length */
    GET = 1, POST = 2, DELETE = 4,
    LOCATION_PATH = 8, URI_PATH = 11, URI_QUERY = 15
};

struct packet {
    uint8_t bytes[1024];
    size_t length;
    unsigned last_option;
};

static void put(struct packet *packet, const void *bytes, size_t length)
{
    if (length > sizeof packet->bytes - packet->length)
        abort();
    memcpy(packet->bytes + packet->length, bytes, length);
    packet->length += length;
}

static void put_byte(struct packet *packet, unsigned value)
{
    uint8_t byte = (uint8_t)value;
    put(packet, &byte, 1);
}

/* Deltas stay below 13; values of less than 269 bytes. */
static void put_option(struct packet *packet, unsigned option, const char *value)
{
    size_t length = strlen(value);
    unsigned delta = option - packet->last_option;
    if (length < 13) {
        put_byte(packet, delta << 4 | (unsigned)length);
    } else {
        put_byte(packet, delta << 4 | 13);
        put_byte(packet, (unsigned)length - 13);
    }
    put(packet, value, length);
    packet->last_option = option;
}

static void begin(struct packet *packet, unsigned type, unsigned code, uint16_t id)
{
    packet->length = 0;
    packet->last_option = 0;
    put_byte(packet, type);
    put_byte(packet, code);
    put_byte(packet, id >> 8);
    put_byte(packet, id & 0xff);
}

static void put_path(struct packet *packet, const char *path)
{
    char copy[64], *rest = NULL, *part;
    snprintf(copy, sizeof copy, "%s", path);
    for (part = strtok_r(copy, "/", &rest); part != NULL; part = strtok_r(NULL, "/", &rest))
        put_option(packet, URI_PATH, part);
}

/* Notes the Location-Path options of an answer. */
static void note_location(struct device *device, const uint8_t *at, const uint8_t *end)
{
    unsigned option = 0;
    device->location[0] = '\0';
    while (at < end && *at != 0xff) {
        unsigned delta = *at >> 4, length = *at & 15;
        at++;
        if (delta == 13)
            delta += *at++;
        if (length == 13)
            length += *at++;
        option += delta;
        if (option == LOCATION_PATH) {
            size_t used = strlen(device->location);
            snprintf(device->location + used, sizeof device->location - used, "%s%.*s",
                     used > 0 ? "/" : "", (int)length, (const char *)at);
        }
        at += length;
    }
}

static int exchange(struct device *device, const struct packet *request)
{
    uint8_t answer[1500];
    ssize_t length;
    if (send(device->fd, request->bytes, request->length, 0) < 0)
        return 0;
    do {
        length = recv(device->fd, answer, sizeof answer, 0);
        if (length < 4)
            return 0;
    } while (memcmp(answer + 2, request->bytes + 2, 2) != 0);
    if (answer[1] == 0x41)
        note_location(device, answer + 4 + (answer[0] & 15), answer + length);
    return (answer[1] >> 5) * 100 + (answer[1] & 31);
}

void device_open(struct device *device, uint16_t port)
{
    struct sockaddr_in peer;
    memset(device, 0, sizeof *device);
    memset(&peer, 0, sizeof peer);
    peer.sin_family = AF_INET;
    peer.sin_port = htons(port);
    peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    device->fd = socket(AF_INET, SOCK_DGRAM, 0);
    device_patience(device, 10);
    if (connect(device->fd, (struct sockaddr *)&peer, sizeof peer) != 0)
        abort();
}

void device_patience(struct device *device, long seconds)
{
    struct timeval patience = {seconds, 0};
    setsockopt(device->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
}

void device_close(struct device *device)
{
    close(device->fd);
}

int device_register(struct device *device, const char *endpoint)
{
    struct packet packet;
    char query[256];
    begin(&packet, CON, POST, ++device->message_id);
    put_option(&packet, URI_PATH, "rd");
    put_option(&packet, 12, "("); /* Content-Format 40 */
    snprintf(query, sizeof query, "ep=%s", endpoint);
    put_option(&packet, URI_QUERY, query);
    put_option(&packet, URI_QUERY, "lt=300");
    put_option(&packet, URI_QUERY, "lwm2m=1.1");
    put_byte(&packet, 0xff);
    put(&packet, "</3/0>", 6);
    return exchange(device, &packet);
}

int device_update(struct device *device)
{
    struct packet packet;
    begin(&packet, CON, POST, ++device->message_id);
    put_path(&packet, device->location);
    return exchange(device, &packet);
}

int device_deregister(struct device *device)
{
    struct packet packet;
    begin(&packet, CON, DELETE, ++device->message_id);
    put_path(&packet, device->location);
    return exchange(device, &packet);
}

int device_is_spoken_to(struct device *device)
{
    char first;
    return recv(device->fd, &first, 1, MSG_PEEK) > 0;
}

int device_serve(struct device *device, const char *text)
{
    uint8_t request[1500];
    struct packet answer;
    ssize_t length = recv(device->fd, request, sizeof request, 0);
    if (length < 4 || length < 4 + (request[0] & 15))
        return 0;
    begin(&answer, ACK | (request[0] & 15u), 0x45, (uint16_t)(request[2] << 8 | request[3]));
    put(&answer, request + 4, request[0] & 15);
    put_byte(&answer, 0xff);
    put(&answer, text, strlen(text));
    return send(device->fd, answer.bytes, answer.length, 0) < 0 ? 0 : request[1];
}
