/*
 * A small MQTT broker for tests, MQTT 3.1.1 and 5 over plain TCP: QoS 0 to 2, wildcards, "no local"
 * and message expiry. No sessions beyond a connection, no retained messages, no wills.
 *
 * Everything happens on the thread that calls mqtt_serve().
 */
#ifndef MQTT_H
#define MQTT_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MQTT_MAX_CLIENTS = 128 };

struct mqtt;

struct mqtt_message {
    const char *topic;
    size_t topic_length;
    const uint8_t *payload;
    size_t payload_length;
    unsigned qos;
    bool retain;
    bool has_expiry;
    uint32_t expiry;
};

/* Called for each message of a client, before it goes to the subscribers. */
typedef void (*mqtt_received)(void *user_data, const struct mqtt_message *message);

/* Listens at an IPv4 address; NULL when that is not possible. */
struct mqtt *mqtt_open(const char *address, uint16_t port, mqtt_received received, void *user_data);
void mqtt_close(struct mqtt *mqtt);

/* Sets what to wait for; `fds` has room for MQTT_MAX_CLIENTS + 1. Returns how many it set. */
size_t mqtt_wait_for(struct mqtt *mqtt, struct pollfd *fds);
/* Does what can be done without waiting. */
void mqtt_serve(struct mqtt *mqtt, const struct pollfd *fds);

/* Sends a message to its subscribers. */
void mqtt_publish(struct mqtt *mqtt, const struct mqtt_message *message);

/* Whether a topic filter takes a topic (MQTT 5, 4.7). */
bool mqtt_matches(const char *filter, const char *topic, size_t topic_length);

#endif
