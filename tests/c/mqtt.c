#define _POSIX_C_SOURCE 200809L

#include "mqtt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What one client may send in a packet, and what may wait for it. */
enum { MAX_PACKET = 32 << 20, MAX_BUFFERED = 256 << 20 };

enum packet_type {
    CONNECT = 1, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP,
    SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT
};

struct buffer {
    uint8_t *bytes;
    size_t length, capacity;
};

struct subscription {
    char *filter;
    unsigned qos;
    bool no_local;
};

struct client {
    int fd;
    unsigned version; /* 0 before CONNECT */
    char *id;
    bool failed;
    struct buffer in, out;
    struct subscription *subscriptions;
    size_t subscription_count;
    uint16_t last_id;
    uint8_t received[65536 / 8]; /* QoS 2 packet ids between PUBLISH and PUBREL */
};

struct mqtt {
    int listener;
    mqtt_received received;
    void *user_data;
    struct client *clients[MQTT_MAX_CLIENTS];
    size_t client_count;
};

/* A packet that is read from its start; reading beyond its end sets `failed`. */
struct reader {
    const uint8_t *at;
    size_t left;
    bool failed;
};

static void *must(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

/* Buffers */

static void append(struct buffer *buffer, const void *bytes, size_t length)
{
    if (length == 0)
        return;
    if (buffer->length + length > buffer->capacity) {
        buffer->capacity = (buffer->length + length) * 2;
        buffer->bytes = (uint8_t *)must(realloc(buffer->bytes, buffer->capacity));
    }
    memcpy(buffer->bytes + buffer->length, bytes, length);
    buffer->length += length;
}

static void append_byte(struct buffer *buffer, unsigned value)
{
    uint8_t byte = (uint8_t)value;
    append(buffer, &byte, 1);
}

static void append_u16(struct buffer *buffer, unsigned value)
{
    append_byte(buffer, value >> 8);
    append_byte(buffer, value & 0xff);
}

static void append_u32(struct buffer *buffer, uint32_t value)
{
    append_u16(buffer, value >> 16);
    append_u16(buffer, value & 0xffff);
}

static void append_length(struct buffer *buffer, size_t length)
{
    do {
        append_byte(buffer, (unsigned)(length & 0x7f) | (length > 0x7f ? 0x80u : 0u));
        length >>= 7;
    } while (length > 0);
}

static void consume(struct buffer *buffer, size_t length)
{
    buffer->length -= length;
    memmove(buffer->bytes, buffer->bytes + length, buffer->length);
}

static const uint8_t *read_bytes(struct reader *reader, size_t length)
{
    const uint8_t *bytes = reader->at;
    if (reader->failed || length > reader->left) {
        reader->failed = true;
        return NULL;
    }
    reader->at += length;
    reader->left -= length;
    return bytes;
}

static uint32_t read_number(struct reader *reader, size_t bytes)
{
    const uint8_t *at = read_bytes(reader, bytes);
    uint32_t value = 0;
    while (at != NULL && bytes-- > 0)
        value = value << 8 | *at++;
    return value;
}

static size_t read_length(struct reader *reader)
{
    size_t value = 0;
    unsigned shift;
    for (shift = 0; shift < 28; shift += 7) {
        uint32_t byte = read_number(reader, 1);
        value |= (size_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0)
            return value;
    }
    reader->failed = true;
    return 0;
}

/* A string that ends with NUL, for free(). */
static char *read_text(struct reader *reader)
{
    size_t length = read_number(reader, 2);
    const uint8_t *bytes = read_bytes(reader, length);
    char *text = (char *)must(calloc(1, bytes == NULL ? 1 : length + 1));
    if (bytes != NULL)
        memcpy(text, bytes, length);
    return text;
}

/* Properties (MQTT 5, 2.2.2); only the message expiry is of interest. */
static void read_properties(struct reader *reader, struct mqtt_message *message)
{
    size_t length = read_length(reader);
    const uint8_t *bytes = read_bytes(reader, length);
    struct reader properties = {bytes, bytes == NULL ? 0 : length, bytes == NULL};
    while (!properties.failed && properties.left > 0) {
        uint32_t id = read_number(&properties, 1);
        switch (id) {
        case 0x02:
            if (message != NULL) {
                message->has_expiry = true;
                message->expiry = read_number(&properties, 4);
                break;
            }
            /* fall through */
        case 0x11: case 0x18: case 0x27:
            read_number(&properties, 4);
            break;
        case 0x01: case 0x17: case 0x19: case 0x24: case 0x25: case 0x28: case 0x29: case 0x2a:
            read_number(&properties, 1);
            break;
        case 0x13: case 0x21: case 0x22: case 0x23:
            read_number(&properties, 2);
            break;
        case 0x0b:
            read_length(&properties);
            break;
        case 0x26:
            read_bytes(&properties, read_number(&properties, 2));
            /* fall through */
        case 0x03: case 0x08: case 0x09: case 0x12: case 0x15: case 0x16: case 0x1a: case 0x1c:
        case 0x1f:
            read_bytes(&properties, read_number(&properties, 2));
            break;
        default:
            properties.failed = true;
        }
    }
    reader->failed = reader->failed || properties.failed;
}

/* Topics */

bool mqtt_matches(const char *filter, const char *topic, size_t topic_length)
{
    const char *end = topic + topic_length;
    if (topic_length > 0 && *topic == '$' && (*filter == '+' || *filter == '#'))
        return false;
    for (;;) {
        if (*filter == '#')
            return true;
        if (*filter == '+') {
            while (topic < end && *topic != '/')
                topic++;
            filter++;
        }
        while (*filter != '\0' && *filter != '+' && *filter != '#' && topic < end &&
               *filter == *topic) {
            filter++;
            topic++;
        }
        if (topic == end)
            return *filter == '\0' || strcmp(filter, "/#") == 0 || strcmp(filter, "#") == 0 ||
                   strcmp(filter, "+") == 0;
        if (*filter != '+' && *filter != '#')
            return false;
    }
}

/* Clients */

static void free_client(struct client *client)
{
    size_t i;
    close(client->fd);
    for (i = 0; i < client->subscription_count; i++)
        free(client->subscriptions[i].filter);
    free(client->subscriptions);
    free(client->id);
    free(client->in.bytes);
    free(client->out.bytes);
    free(client);
}

static void flush(struct client *client)
{
    while (!client->failed && client->out.length > 0) {
        ssize_t sent = send(client->fd, client->out.bytes, client->out.length, MSG_NOSIGNAL);
        if (sent > 0)
            consume(&client->out, (size_t)sent);
        else if (errno != EINTR) {
            client->failed = errno != EAGAIN && errno != EWOULDBLOCK;
            return;
        }
    }
}

static void reply(struct client *client, enum packet_type type, unsigned flags,
                  const struct buffer *body)
{
    if (client->out.length + body->length > MAX_BUFFERED) {
        client->failed = true;
        return;
    }
    append_byte(&client->out, (unsigned)type << 4 | flags);
    append_length(&client->out, body->length);
    append(&client->out, body->bytes, body->length);
    flush(client);
}

static void reply_id(struct client *client, enum packet_type type, unsigned flags, unsigned id)
{
    struct buffer body = {NULL, 0, 0};
    append_u16(&body, id);
    reply(client, type, flags, &body);
    free(body.bytes);
}

static void send_to(struct client *client, const struct mqtt_message *message, unsigned qos)
{
    struct buffer body = {NULL, 0, 0};
    append_u16(&body, (unsigned)message->topic_length);
    append(&body, message->topic, message->topic_length);
    if (qos > 0) {
        client->last_id = (uint16_t)(client->last_id == 65535 ? 1 : client->last_id + 1);
        append_u16(&body, client->last_id);
    }
    if (client->version == 5) {
        append_length(&body, message->has_expiry ? 5 : 0);
        if (message->has_expiry) {
            append_byte(&body, 0x02);
            append_u32(&body, message->expiry);
        }
    }
    append(&body, message->payload, message->payload_length);
    reply(client, PUBLISH, qos << 1, &body);
    free(body.bytes);
}

static void route(struct mqtt *mqtt, const struct client *from, const struct mqtt_message *message)
{
    size_t i, k;
    for (i = 0; i < mqtt->client_count; i++) {
        struct client *client = mqtt->clients[i];
        bool wanted = false;
        unsigned qos = 0;
        for (k = 0; k < client->subscription_count; k++) {
            const struct subscription *it = &client->subscriptions[k];
            if ((it->no_local && client == from) ||
                !mqtt_matches(it->filter, message->topic, message->topic_length))
                continue;
            wanted = true;
            if (it->qos > qos)
                qos = it->qos;
        }
        if (wanted)
            send_to(client, message, qos < message->qos ? qos : message->qos);
    }
}

static void subscribe(struct client *client, char *filter, unsigned options)
{
    struct subscription *it;
    size_t i;
    for (i = 0; i < client->subscription_count; i++)
        if (strcmp(client->subscriptions[i].filter, filter) == 0)
            break;
    if (i == client->subscription_count) {
        client->subscription_count++;
        client->subscriptions = (struct subscription *)must(
            realloc(client->subscriptions, client->subscription_count * sizeof *it));
    } else {
        free(client->subscriptions[i].filter);
    }
    it = &client->subscriptions[i];
    it->filter = filter;
    it->qos = options & 3;
    it->no_local = (options & 4) != 0;
}

static bool unsubscribe(struct client *client, const char *filter)
{
    size_t i;
    for (i = 0; i < client->subscription_count; i++)
        if (strcmp(client->subscriptions[i].filter, filter) == 0) {
            free(client->subscriptions[i].filter);
            client->subscriptions[i] = client->subscriptions[--client->subscription_count];
            return true;
        }
    return false;
}

/* Packets */

static void on_connect(struct mqtt *mqtt, struct client *client, struct reader *packet)
{
    struct buffer body = {NULL, 0, 0};
    size_t i;
    free(read_text(packet)); /* MQTT */
    client->version = read_number(packet, 1);
    read_number(packet, 3); /* flags, keep alive: this broker has no use for them */
    if (client->version == 5)
        read_properties(packet, NULL);
    free(client->id);
    client->id = read_text(packet);
    if (client->version != 4 && client->version != 5)
        packet->failed = true;
    for (i = 0; i < mqtt->client_count; i++) {
        struct client *other = mqtt->clients[i];
        if (other != client && other->id != NULL && *client->id != '\0' &&
            strcmp(other->id, client->id) == 0)
            other->failed = true; /* taken over */
    }
    append_u16(&body, 0);
    if (client->version == 5)
        append_length(&body, 0);
    reply(client, CONNACK, 0, &body);
    free(body.bytes);
}

static void on_publish(struct mqtt *mqtt, struct client *client, unsigned flags,
                       struct reader *packet)
{
    struct mqtt_message message;
    unsigned id = 0;
    memset(&message, 0, sizeof message);
    message.qos = flags >> 1 & 3;
    message.retain = (flags & 1) != 0;
    message.topic_length = read_number(packet, 2);
    message.topic = (const char *)read_bytes(packet, message.topic_length);
    if (message.qos > 0)
        id = read_number(packet, 2);
    if (client->version == 5)
        read_properties(packet, &message);
    message.payload_length = packet->left;
    message.payload = read_bytes(packet, packet->left);
    if (packet->failed)
        return;
    if (message.qos == 2 && (client->received[id / 8] >> id % 8 & 1) != 0) {
        reply_id(client, PUBREC, 0, id);
        return;
    }
    if (message.qos == 1)
        reply_id(client, PUBACK, 0, id);
    if (message.qos == 2) {
        client->received[id / 8] |= (uint8_t)(1u << id % 8);
        reply_id(client, PUBREC, 0, id);
    }
    mqtt->received(mqtt->user_data, &message);
    route(mqtt, client, &message);
}

static void on_subscribe(struct client *client, struct reader *packet, bool subscribes)
{
    struct buffer body = {NULL, 0, 0};
    append_u16(&body, read_number(packet, 2));
    if (client->version == 5) {
        read_properties(packet, NULL);
        append_length(&body, 0);
    }
    while (!packet->failed && packet->left > 0) {
        char *filter = read_text(packet);
        if (subscribes) {
            unsigned options = read_number(packet, 1);
            subscribe(client, filter, options);
            append_byte(&body, options & 3);
        } else {
            bool known = unsubscribe(client, filter);
            if (client->version == 5)
                append_byte(&body, known ? 0x00 : 0x11);
            free(filter);
        }
    }
    reply(client, subscribes ? SUBACK : UNSUBACK, 0, &body);
    free(body.bytes);
}

static void on_packet(struct mqtt *mqtt, struct client *client, unsigned first,
                      struct reader packet)
{
    static const struct buffer nothing = {NULL, 0, 0};
    unsigned id;
    if ((client->version == 0) != (first >> 4 == CONNECT)) {
        client->failed = true;
        return;
    }
    switch (first >> 4) {
    case CONNECT:
        on_connect(mqtt, client, &packet);
        break;
    case PUBLISH:
        on_publish(mqtt, client, first & 15, &packet);
        break;
    case PUBREC:
        reply_id(client, PUBREL, 2, read_number(&packet, 2));
        break;
    case PUBREL:
        id = read_number(&packet, 2);
        client->received[id / 8] &= (uint8_t)~(1u << id % 8);
        reply_id(client, PUBCOMP, 0, id);
        break;
    case PUBACK:
    case PUBCOMP:
        break;
    case SUBSCRIBE:
        on_subscribe(client, &packet, true);
        break;
    case UNSUBSCRIBE:
        on_subscribe(client, &packet, false);
        break;
    case PINGREQ:
        reply(client, PINGRESP, 0, &nothing);
        break;
    default: /* DISCONNECT, and what only brokers send */
        client->failed = true;
    }
    client->failed = client->failed || packet.failed;
}

static void receive(struct mqtt *mqtt, struct client *client)
{
    uint8_t chunk[65536];
    size_t done = 0;
    ssize_t length = recv(client->fd, chunk, sizeof chunk, 0);
    if (length <= 0) {
        client->failed = length == 0 || (errno != EAGAIN && errno != EINTR);
        return;
    }
    append(&client->in, chunk, (size_t)length);
    while (!client->failed) {
        struct reader reader = {client->in.bytes + done, client->in.length - done, false};
        unsigned first = read_number(&reader, 1);
        size_t remaining = read_length(&reader);
        struct reader packet = {reader.at, remaining, false};
        if (reader.failed || remaining > reader.left) {
            /* Not all here yet; five bytes hold type and length. */
            client->failed =
                remaining > MAX_PACKET || (reader.failed && client->in.length - done >= 5);
            break;
        }
        on_packet(mqtt, client, first, packet);
        done = (size_t)(reader.at - client->in.bytes) + remaining;
    }
    consume(&client->in, done);
}

static void accept_client(struct mqtt *mqtt)
{
    int on = 1;
    int fd = accept(mqtt->listener, NULL, NULL);
    struct client *client;
    if (fd < 0)
        return;
    if (mqtt->client_count == MQTT_MAX_CLIENTS) {
        close(fd);
        return;
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    client = (struct client *)must(calloc(1, sizeof *client));
    client->fd = fd;
    mqtt->clients[mqtt->client_count++] = client;
}

/* The interface */

struct mqtt *mqtt_open(const char *address, uint16_t port, mqtt_received received, void *user_data)
{
    struct mqtt *mqtt;
    struct sockaddr_in bound;
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(&bound, 0, sizeof bound);
    bound.sin_family = AF_INET;
    bound.sin_port = htons(port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (inet_pton(AF_INET, address, &bound.sin_addr) != 1 ||
        bind(fd, (struct sockaddr *)&bound, sizeof bound) != 0 || listen(fd, 64) != 0) {
        close(fd);
        return NULL;
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    mqtt = (struct mqtt *)must(calloc(1, sizeof *mqtt));
    mqtt->listener = fd;
    mqtt->received = received;
    mqtt->user_data = user_data;
    return mqtt;
}

void mqtt_close(struct mqtt *mqtt)
{
    size_t i;
    for (i = 0; i < mqtt->client_count; i++)
        free_client(mqtt->clients[i]);
    close(mqtt->listener);
    free(mqtt);
}

size_t mqtt_wait_for(struct mqtt *mqtt, struct pollfd *fds)
{
    size_t i;
    fds[0].fd = mqtt->listener;
    fds[0].events = POLLIN;
    for (i = 0; i < mqtt->client_count; i++) {
        bool sends = mqtt->clients[i]->out.length > 0;
        fds[i + 1].fd = mqtt->clients[i]->fd;
        fds[i + 1].events = (short)(POLLIN | (sends ? POLLOUT : 0));
    }
    return mqtt->client_count + 1;
}

void mqtt_serve(struct mqtt *mqtt, const struct pollfd *fds)
{
    size_t i, kept = 0, known = mqtt->client_count;
    for (i = 0; i < known; i++) {
        struct client *client = mqtt->clients[i];
        if ((fds[i + 1].revents & POLLOUT) != 0)
            flush(client);
        if ((fds[i + 1].revents & ~POLLOUT) != 0 && !client->failed)
            receive(mqtt, client);
    }
    if ((fds[0].revents & POLLIN) != 0)
        accept_client(mqtt);
    for (i = 0; i < mqtt->client_count; i++) {
        if (mqtt->clients[i]->failed)
            free_client(mqtt->clients[i]);
        else
            mqtt->clients[kept++] = mqtt->clients[i];
    }
    mqtt->client_count = kept;
}

void mqtt_publish(struct mqtt *mqtt, const struct mqtt_message *message)
{
    route(mqtt, NULL, message);
}
