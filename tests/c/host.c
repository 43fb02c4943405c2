/*
 * A broker that carries the gateway: the MQTT broker of mqtt.c with liblwm2m_gateway in it.
 *
 *   host [--threaded] [--per-device] [--guard] PORT CONFIG
 *
 * MQTT at 127.0.0.1:PORT, the gateway as the file CONFIG says. Polled, everything is done by the
 * main thread, which waits for sockets and for the gateway's descriptor. Threaded, the gateway's
 * threads leave what they have in a queue. With --guard the host knows the keys of identities that
 * begin with "host-", and refuses endpoints that begin with "deny-". SIGTERM ends, SIGHUP reads
 * CONFIG again, SIGUSR1 writes the counters.
 */
#define _GNU_SOURCE /* ppoll */

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lwm2m_gateway.h"
#include "mqtt.h"

/* A message of a gateway's thread for the main thread. */
struct waiting {
    struct waiting *next;
    struct mqtt_message message;
    char bytes[]; /* topic and payload */
};

struct host {
    lwm2m_gateway *gateway;
    struct mqtt *mqtt;
    bool threaded;
    pthread_t main_thread;
    pthread_mutex_t lock; /* for all that follows */
    char **filters;
    size_t filter_count;
    struct waiting *first, **last;
    int wake;
};

static volatile sig_atomic_t terminate, hangup, show;

static void on_signal(int number)
{
    if (number == SIGHUP)
        hangup = 1;
    else if (number == SIGUSR1)
        show = 1;
    else
        terminate = 1;
}

static void *must(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

/* What the gateway asks for */

static void check_thread(const struct host *host)
{
    if (!host->threaded && !pthread_equal(host->main_thread, pthread_self()))
        abort();
}

static int publish(void *user_data, const lwm2m_gateway_publication *publication)
{
    struct host *host = (struct host *)user_data;
    struct waiting *waiting;
    struct mqtt_message message;
    uint64_t one = 1;
    check_thread(host);
    memset(&message, 0, sizeof message);
    message.topic = publication->topic;
    message.topic_length = publication->topic_length;
    message.payload = publication->payload;
    message.payload_length = publication->payload_length;
    message.qos = publication->qos;
    if (!host->threaded) {
        mqtt_publish(host->mqtt, &message);
        return 0;
    }
    waiting = (struct waiting *)must(
        malloc(sizeof *waiting + message.topic_length + message.payload_length));
    waiting->next = NULL;
    waiting->message = message;
    memcpy(waiting->bytes, message.topic, message.topic_length);
    memcpy(waiting->bytes + message.topic_length, message.payload, message.payload_length);
    waiting->message.topic = waiting->bytes;
    waiting->message.payload = (uint8_t *)waiting->bytes + message.topic_length;
    pthread_mutex_lock(&host->lock);
    *host->last = waiting;
    host->last = &waiting->next;
    pthread_mutex_unlock(&host->lock);
    return write(host->wake, &one, sizeof one) == sizeof one ? 0 : 1;
}

static void subscribe(void *user_data, const char *filter, uint32_t qos)
{
    struct host *host = (struct host *)user_data;
    (void)qos;
    check_thread(host);
    pthread_mutex_lock(&host->lock);
    host->filters =
        (char **)must(realloc(host->filters, (host->filter_count + 1) * sizeof *host->filters));
    host->filters[host->filter_count++] = (char *)must(strdup(filter));
    pthread_mutex_unlock(&host->lock);
}

static void unsubscribe(void *user_data, const char *filter)
{
    struct host *host = (struct host *)user_data;
    size_t i;
    check_thread(host);
    pthread_mutex_lock(&host->lock);
    for (i = 0; i < host->filter_count; i++)
        if (strcmp(host->filters[i], filter) == 0) {
            free(host->filters[i]);
            host->filters[i] = host->filters[--host->filter_count];
            break;
        }
    pthread_mutex_unlock(&host->lock);
}

static void write_log(void *user_data, lwm2m_gateway_log_level level, const char *target,
                      const char *text)
{
    static const char *const names[] = {"", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"};
    check_thread((const struct host *)user_data);
    fprintf(stderr, "%s %s: %s\n", names[level], target, text);
}

static void authorize(void *user_data, const lwm2m_gateway_registration *registration)
{
    struct host *host = (struct host *)user_data;
    bool denied = strncmp(registration->endpoint, "deny-", 5) == 0;
    check_thread(host);
    fprintf(stderr, "authorize %s\n", registration->json);
    if (lwm2m_gateway_answer_authorization(
            host->gateway, registration->id,
            denied ? LWM2M_GATEWAY_DECISION_DENY : LWM2M_GATEWAY_DECISION_ALLOW,
            denied ? "not welcome" : NULL) != LWM2M_GATEWAY_STATUS_OK)
        abort();
}

static void psk_lookup(void *user_data, const lwm2m_gateway_psk_request *request)
{
    static const uint8_t key[16] = "sixteen bytes !!";
    struct host *host = (struct host *)user_data;
    bool known = request->identity_length > 5 && memcmp(request->identity, "host-", 5) == 0;
    check_thread(host);
    fprintf(stderr, "key of %.*s at %s\n", (int)request->identity_length,
            (const char *)request->identity, request->peer);
    if (lwm2m_gateway_answer_psk(host->gateway, request->id, known ? key : NULL, sizeof key) !=
        LWM2M_GATEWAY_STATUS_OK)
        abort();
}

/* What the broker has for the gateway */

static void received(void *user_data, const struct mqtt_message *message)
{
    struct host *host = (struct host *)user_data;
    lwm2m_gateway_message command;
    bool wanted = false;
    size_t i;
    pthread_mutex_lock(&host->lock);
    for (i = 0; i < host->filter_count && !wanted; i++)
        wanted = mqtt_matches(host->filters[i], message->topic, message->topic_length);
    pthread_mutex_unlock(&host->lock);
    if (!wanted)
        return;
    memset(&command, 0, sizeof command);
    command.size = sizeof command;
    command.topic = message->topic;
    command.topic_length = message->topic_length;
    command.payload = message->payload;
    command.payload_length = message->payload_length;
    command.qos = message->qos;
    command.retain = message->retain;
    command.has_message_expiry = message->has_expiry;
    command.message_expiry = message->expiry;
    if (lwm2m_gateway_deliver(host->gateway, &command) != LWM2M_GATEWAY_STATUS_OK)
        fprintf(stderr, "not delivered: %s\n", lwm2m_gateway_last_error());
}

/* The main thread */

static void publish_waiting(struct host *host)
{
    struct waiting *waiting;
    uint64_t count;
    if (read(host->wake, &count, sizeof count) < 0 && errno != EAGAIN)
        abort();
    pthread_mutex_lock(&host->lock);
    waiting = host->first;
    host->first = NULL;
    host->last = &host->first;
    pthread_mutex_unlock(&host->lock);
    while (waiting != NULL) {
        struct waiting *next = waiting->next;
        mqtt_publish(host->mqtt, &waiting->message);
        free(waiting);
        waiting = next;
    }
}

/* Makes the gateway's callbacks, or does what they left to be done. */
static void serve_gateway(struct host *host)
{
    if (host->threaded)
        publish_waiting(host);
    else if (lwm2m_gateway_poll(host->gateway, 0, NULL) != LWM2M_GATEWAY_STATUS_OK)
        fprintf(stderr, "not polled: %s\n", lwm2m_gateway_last_error());
}

static char *read_file(const char *name)
{
    char *text = (char *)must(calloc(1, 1 << 20));
    FILE *file = fopen(name, "r");
    if (file == NULL || fread(text, 1, (1 << 20) - 1, file) == 0 || ferror(file)) {
        perror(name);
        free(text);
        text = NULL;
    }
    if (file != NULL)
        fclose(file);
    return text;
}

static void reload(struct host *host, const char *file)
{
    char *config = read_file(file);
    if (config == NULL || lwm2m_gateway_reload(host->gateway, config) != LWM2M_GATEWAY_STATUS_OK)
        fprintf(stderr, "not reloaded: %s\n", config == NULL ? file : lwm2m_gateway_last_error());
    free(config);
}

static void show_counters(struct host *host)
{
    char *json = NULL;
    if (lwm2m_gateway_statistics(host->gateway, &json) == LWM2M_GATEWAY_STATUS_OK)
        fprintf(stderr, "counters=%s\n", json);
    else
        fprintf(stderr, "no counters: %s\n", lwm2m_gateway_last_error());
    lwm2m_gateway_string_free(json);
}

static void run(struct host *host, const char *config, const sigset_t *unblocked)
{
    struct pollfd fds[MQTT_MAX_CLIENTS + 2];
    while (!terminate) {
        size_t count = mqtt_wait_for(host->mqtt, fds);
        fds[count].fd = host->wake;
        fds[count].events = POLLIN;
        if (ppoll(fds, count + 1, NULL, unblocked) < 0) {
            if (errno != EINTR)
                abort();
            if (hangup)
                reload(host, config);
            if (show)
                show_counters(host);
            hangup = show = 0;
            continue;
        }
        if ((fds[count].revents & POLLIN) != 0)
            serve_gateway(host);
        mqtt_serve(host->mqtt, fds);
    }
}

static bool start(struct host *host, const char *config, uint32_t subscriptions, bool guard)
{
    lwm2m_gateway_options options;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.mode = host->threaded ? LWM2M_GATEWAY_MODE_THREADED : LWM2M_GATEWAY_MODE_POLLED;
    options.subscriptions = subscriptions;
    options.user_data = host;
    options.publish = publish;
    options.subscribe = subscribe;
    options.unsubscribe = unsubscribe;
    options.log = write_log;
    if (guard) {
        options.authorize = authorize;
        options.psk_lookup = psk_lookup;
    }
    if (lwm2m_gateway_create(&options, config, &host->gateway) == LWM2M_GATEWAY_STATUS_OK &&
        lwm2m_gateway_start(host->gateway) == LWM2M_GATEWAY_STATUS_OK)
        return true;
    fprintf(stderr, "%s\n", lwm2m_gateway_last_error());
    lwm2m_gateway_free(host->gateway);
    return false;
}

int main(int argc, char **argv)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};
    struct host host;
    uint32_t subscriptions = LWM2M_GATEWAY_SUBSCRIPTIONS_SHARED;
    struct sigaction action;
    sigset_t blocked, unblocked;
    bool guard = false;
    char *config;
    size_t i;
    int at = 1, code = 0;

    memset(&host, 0, sizeof host);
    host.main_thread = pthread_self();
    host.last = &host.first;
    pthread_mutex_init(&host.lock, NULL);
    for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
        if (strcmp(argv[at], "--threaded") == 0)
            host.threaded = true;
        else if (strcmp(argv[at], "--per-device") == 0)
            subscriptions = LWM2M_GATEWAY_SUBSCRIPTIONS_PER_DEVICE;
        else if (strcmp(argv[at], "--guard") == 0)
            guard = true;
    }
    if (argc - at != 2) {
        fprintf(stderr, "usage: host [--threaded] [--per-device] [--guard] PORT CONFIG\n");
        return 2;
    }
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigemptyset(&blocked);
    for (i = 0; i < sizeof signals / sizeof *signals; i++) {
        sigaddset(&blocked, signals[i]);
        sigaction(signals[i], &action, NULL);
    }
    sigprocmask(SIG_BLOCK, &blocked, &unblocked);

    config = read_file(argv[at + 1]);
    if (config == NULL)
        return 1;
    if (!start(&host, config, subscriptions, guard)) {
        free(config);
        return 1;
    }
    free(config);
    host.wake = host.threaded ? eventfd(0, EFD_NONBLOCK) : lwm2m_gateway_fd(host.gateway);
    host.mqtt = mqtt_open("127.0.0.1", (uint16_t)atoi(argv[at]), received, &host);
    if (host.mqtt == NULL) {
        perror("mqtt");
        code = 1;
    } else {
        run(&host, argv[at + 1], &unblocked);
    }

    if (lwm2m_gateway_stop(host.gateway, 5000) != LWM2M_GATEWAY_STATUS_OK) {
        fprintf(stderr, "not stopped: %s\n", lwm2m_gateway_last_error());
        code = 1;
    }
    if (host.mqtt != NULL) {
        serve_gateway(&host);
        mqtt_close(host.mqtt);
    }
    lwm2m_gateway_free(host.gateway);
    if (host.threaded)
        close(host.wake);
    for (i = 0; i < host.filter_count; i++)
        free(host.filters[i]);
    free(host.filters);
    pthread_mutex_destroy(&host.lock);
    return code;
}
