#define _POSIX_C_SOURCE 200809L

#include "support.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>

enum { PATIENCE_MS = 15000 };

void fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: failed: %s (last error: %s)\n", file, line, what,
            lwm2m_gateway_last_error());
    exit(1);
}

void check_status(const char *file, int line, const char *call, lwm2m_gateway_status got,
                  lwm2m_gateway_status expected)
{
    if (got == expected)
        return;
    fprintf(stderr, "%s:%d: %s: %d instead of %d: %s\n", file, line, call, (int)got,
            (int)expected, lwm2m_gateway_last_error());
    exit(1);
}

static void note(void *user_data, char what, int number, uint64_t id, const char *name,
                 const char *text, size_t length)
{
    struct notes *notes = (struct notes *)user_data;
    struct seen seen;
    memset(&seen, 0, sizeof seen);
    seen.what = what;
    seen.number = number;
    seen.id = id;
    snprintf(seen.name, sizeof seen.name, "%s", name);
    seen.text = (char *)calloc(1, length + 1);
    if (length > 0)
        memcpy(seen.text, text, length);
    seen.thread = pthread_self();
    pthread_mutex_lock(&notes->lock);
    CHECK(notes->count < MAX_SEEN);
    notes->seen[notes->count++] = seen;
    pthread_cond_broadcast(&notes->changed);
    pthread_mutex_unlock(&notes->lock);
    if (notes->inside != NULL && notes->inside_of == what)
        notes->inside(notes, &seen);
}

static int on_publish(void *user_data, const lwm2m_gateway_publication *publication)
{
    CHECK(publication->size >= sizeof *publication);
    CHECK(strlen(publication->topic) == publication->topic_length);
    CHECK(*publication->endpoint != '\0' && publication->qos <= 2);
    note(user_data, 'p', (int)publication->kind,
         publication->correlation_data == NULL ? 0 : publication->correlation_data_length,
         publication->topic,
         (const char *)publication->payload, publication->payload_length);
    return ((struct notes *)user_data)->publish_result;
}

static void on_subscribe(void *user_data, const char *filter, uint32_t qos)
{
    note(user_data, '+', (int)qos, 0, filter, filter, strlen(filter));
}

static void on_unsubscribe(void *user_data, const char *filter)
{
    note(user_data, '-', 0, 0, filter, filter, strlen(filter));
}

static void on_log(void *user_data, lwm2m_gateway_log_level level, const char *target,
                   const char *text)
{
    CHECK(*target != '\0' && strchr(text, '\n') == NULL);
    note(user_data, 'l', (int)level, 0, target, text, strlen(text));
}

static void on_wakeup(void *user_data)
{
    struct notes *notes = (struct notes *)user_data;
    pthread_mutex_lock(&notes->lock);
    notes->wakeups++;
    pthread_mutex_unlock(&notes->lock);
}

static void on_psk_lookup(void *user_data, const lwm2m_gateway_psk_request *request)
{
    char identity[128];
    CHECK(request->size >= sizeof *request);
    CHECK(strchr(request->peer, ':') != NULL && strncmp(request->listener, "dtls:", 5) == 0);
    snprintf(identity, sizeof identity, "%.*s", (int)request->identity_length,
             (const char *)request->identity);
    note(user_data, 'k', 0, request->id, identity, identity, strlen(identity));
}

static void on_authorize(void *user_data, const lwm2m_gateway_registration *registration)
{
    CHECK(registration->size >= sizeof *registration);
    CHECK(strncmp(registration->peer, "127.0.0.1:", 10) == 0 && registration->identity == NULL);
    note(user_data, 'a', 0, registration->id, registration->endpoint, registration->json,
         strlen(registration->json));
}

static void on_device_event(void *user_data, const char *json)
{
    note(user_data, 'e', 0, 0, "", json, strlen(json));
}

static void on_durable(void *user_data, uint64_t receipt, lwm2m_gateway_status status)
{
    char text[32];
    snprintf(text, sizeof text, "<%llu>", (unsigned long long)receipt);
    note(user_data, 'd', (int)status, receipt, "", text, strlen(text));
}

lwm2m_gateway_options noting(struct notes *notes, uint32_t mode)
{
    lwm2m_gateway_options options;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.mode = mode;
    options.user_data = notes;
    options.publish = on_publish;
    options.subscribe = on_subscribe;
    options.unsubscribe = on_unsubscribe;
    options.log = on_log;
    options.wakeup = on_wakeup;
    options.psk_lookup = on_psk_lookup;
    options.device_event = on_device_event;
    options.durable = on_durable;
    return options;
}

lwm2m_gateway_options authorizing(struct notes *notes, uint32_t mode)
{
    lwm2m_gateway_options options = noting(notes, mode);
    options.authorize = on_authorize;
    return options;
}

void notes_init(struct notes *notes)
{
    memset(notes, 0, sizeof *notes);
    pthread_mutex_init(&notes->lock, NULL);
    pthread_cond_init(&notes->changed, NULL);
}

void notes_free(struct notes *notes)
{
    size_t i;
    for (i = 0; i < notes->count; i++)
        free(notes->seen[i].text);
    pthread_mutex_destroy(&notes->lock);
    pthread_cond_destroy(&notes->changed);
}

lwm2m_gateway *start(struct notes *notes, const lwm2m_gateway_options *options, const char *config)
{
    char text[1024];
    lwm2m_gateway *gateway = NULL;
    snprintf(text, sizeof text, "listeners.udp.default.bind = '127.0.0.1:0'\n%s\n", config);
    OK(lwm2m_gateway_create(options, text, &gateway));
    notes->gateway = gateway;
    OK(lwm2m_gateway_start(gateway));
    return gateway;
}

lwm2m_gateway *begin(struct notes *notes, uint32_t mode, const char *config)
{
    lwm2m_gateway_options options;
    notes_init(notes);
    options = noting(notes, mode);
    return start(notes, &options, config);
}

uint16_t port_of(const lwm2m_gateway *gateway)
{
    char *json = NULL;
    const char *address;
    uint16_t port;
    OK(lwm2m_gateway_listeners(gateway, &json));
    address = strstr(json, "\"address\":\"127.0.0.1:");
    CHECK(address != NULL && strstr(json, "\"name\":\"udp:default\"") != NULL);
    port = (uint16_t)atoi(address + strlen("\"address\":\"127.0.0.1:"));
    lwm2m_gateway_string_free(json);
    return port;
}

void stop_and_free(lwm2m_gateway *gateway, struct notes *notes)
{
    OK(lwm2m_gateway_stop(gateway, 10000));
    if (lwm2m_gateway_fd(gateway) >= 0)
        OK(lwm2m_gateway_poll(gateway, 0, NULL));
    OK(lwm2m_gateway_free(gateway));
    notes_free(notes);
}

static struct seen *find(struct notes *notes, char what, const char *text, size_t *count)
{
    struct seen *found = NULL;
    size_t i;
    *count = 0;
    for (i = 0; i < notes->count; i++) {
        struct seen *seen = &notes->seen[i];
        if (seen->what == what && strstr(seen->text, text) != NULL) {
            if (found == NULL)
                found = seen;
            ++*count;
        }
    }
    return found;
}

struct seen *wait_for(struct notes *notes, char what, const char *text)
{
    int fd = lwm2m_gateway_fd(notes->gateway);
    struct pollfd readable = {0, POLLIN, 0};
    struct timespec end;
    struct seen *found;
    size_t count;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += PATIENCE_MS / 1000;
    for (;;) {
        int late = 0;
        pthread_mutex_lock(&notes->lock);
        found = find(notes, what, text, &count);
        if (found == NULL && fd < 0)
            late = pthread_cond_timedwait(&notes->changed, &notes->lock, &end) == ETIMEDOUT;
        pthread_mutex_unlock(&notes->lock);
        if (found != NULL)
            return found;
        if (fd >= 0) {
            readable.fd = fd;
            late = poll(&readable, 1, PATIENCE_MS) == 0;
            OK(lwm2m_gateway_poll(notes->gateway, 0, NULL));
        }
        if (late) {
            fprintf(stderr, "no callback '%c' with %s\n", what, text);
            exit(1);
        }
    }
}

size_t count_of(struct notes *notes, char what, const char *text)
{
    size_t count;
    pthread_mutex_lock(&notes->lock);
    find(notes, what, text, &count);
    pthread_mutex_unlock(&notes->lock);
    return count;
}

lwm2m_gateway_message message_of(const char *topic, const char *payload)
{
    lwm2m_gateway_message message;
    memset(&message, 0, sizeof message);
    message.size = sizeof message;
    message.topic = topic;
    message.topic_length = strlen(topic);
    message.payload = (const uint8_t *)payload;
    message.payload_length = strlen(payload);
    return message;
}

void deliver_read(lwm2m_gateway *gateway, const char *endpoint, int request_id)
{
    char topic[128], payload[128];
    lwm2m_gateway_message message;
    snprintf(topic, sizeof topic, "lwm2m/%s/dn/dm", endpoint);
    snprintf(payload, sizeof payload,
             "{\"reqID\":%d,\"msgType\":\"read\",\"data\":{\"path\":\"/3/0/0\"}}", request_id);
    message = message_of(topic, payload);
    OK(lwm2m_gateway_deliver(gateway, &message));
}

long counter(const lwm2m_gateway *gateway, const char *name)
{
    char key[64], *json = NULL;
    const char *found;
    long value;
    OK(lwm2m_gateway_statistics(gateway, &json));
    snprintf(key, sizeof key, "\"%s\":", name);
    found = strstr(json, key);
    if (found == NULL) {
        fprintf(stderr, "no %s in %s\n", name, json);
        exit(1);
    }
    value = atol(found + strlen(key));
    lwm2m_gateway_string_free(json);
    return value;
}

void *run_task(void *argument)
{
    struct task *task = (struct task *)argument;
    int result = task->run(task->device, task->endpoint);
    pthread_mutex_lock(&task->lock);
    task->result = result;
    task->done = true;
    pthread_mutex_unlock(&task->lock);
    return NULL;
}

bool is_done(struct task *task)
{
    bool done;
    pthread_mutex_lock(&task->lock);
    done = task->done;
    pthread_mutex_unlock(&task->lock);
    return done;
}

int polling(struct notes *notes, struct device *device, const char *endpoint,
            int (*run)(struct device *device, const char *endpoint))
{
    struct task task = {device, endpoint, run, 0, false, PTHREAD_MUTEX_INITIALIZER};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run_task, &task) == 0);
    while (lwm2m_gateway_fd(notes->gateway) >= 0 && !is_done(&task))
        OK(lwm2m_gateway_poll(notes->gateway, 0, NULL));
    pthread_join(thread, NULL);
    return task.result;
}
