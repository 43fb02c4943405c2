/* Calls from inside of callbacks, from several threads, and several gateways. */

#define _POSIX_C_SOURCE 200809L

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "device.h"
#include "support.h"

#define BUSY LWM2M_GATEWAY_STATUS_BUSY

static void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* Sends the next command from inside of the answer to the last. */
static void deliver_inside(struct notes *notes, const struct seen *seen)
{
    int number = 0;
    const char *id = strstr(seen->text, "\"reqID\":");
    char *json;
    if (id != NULL)
        number = atoi(id + 8);
    if (number < 1 || number >= 20)
        return;
    deliver_read(notes->gateway, "nobody", number + 1);
    OK(lwm2m_gateway_statistics(notes->gateway, &json));
    lwm2m_gateway_string_free(json);
    OK(lwm2m_gateway_listeners(notes->gateway, &json));
    lwm2m_gateway_string_free(json);
    CHECK(lwm2m_gateway_is_command(notes->gateway, "lwm2m/x/dn/y", 12) == 1);
    CHECK_STATUS(lwm2m_gateway_kick(notes->gateway, "nobody"), LWM2M_GATEWAY_STATUS_NOT_FOUND);
}

static void calls_inside(uint32_t mode)
{
    struct notes notes;
    lwm2m_gateway *gateway;
    gateway = begin(&notes, mode, "");
    notes.inside = deliver_inside;
    notes.inside_of = 'p';
    deliver_read(gateway, "nobody", 1);
    wait_for(&notes, 'p', "\"reqID\":20");
    stop_and_free(gateway, &notes);
}

void test_callbacks_may_call(void)
{
    calls_inside(LWM2M_GATEWAY_MODE_THREADED);
    calls_inside(LWM2M_GATEWAY_MODE_POLLED);
}

static void refused_inside(struct notes *notes, const struct seen *seen)
{
    lwm2m_gateway *gateway = notes->gateway;
    char *json;
    (void)seen;
    CHECK_STATUS(lwm2m_gateway_start(gateway), BUSY);
    CHECK_STATUS(lwm2m_gateway_poll(gateway, 0, NULL), BUSY);
    CHECK_STATUS(lwm2m_gateway_reload(gateway, NULL), BUSY);
    CHECK_STATUS(lwm2m_gateway_devices(gateway, &json), BUSY);
    CHECK_STATUS(lwm2m_gateway_device(gateway, "x", &json), BUSY);
    CHECK_STATUS(lwm2m_gateway_stop(gateway, 1000), BUSY);
    CHECK(strstr(lwm2m_gateway_last_error(), "callback") != NULL);
    CHECK_STATUS(lwm2m_gateway_free(gateway), BUSY);
    notes->publish_result = 17; /* it was here */
}

static void refuses_inside(uint32_t mode)
{
    struct notes notes;
    lwm2m_gateway_options options;
    lwm2m_gateway *gateway;
    notes_init(&notes);
    options = noting(&notes, mode);
    notes.inside = refused_inside;
    notes.inside_of = '+';
    /* Threaded: inside of start, on this thread. */
    gateway = start(&notes, &options, "");
    wait_for(&notes, '+', "");
    CHECK(notes.publish_result == 17);
    notes.publish_result = 0;
    notes.inside_of = 'p';
    deliver_read(gateway, "nobody", 1);
    wait_for(&notes, 'p', "\"reqID\":1");
    stop_and_free(gateway, &notes);
    CHECK(notes.publish_result == 17);
}

void test_callbacks_may_not_stop(void)
{
    refuses_inside(LWM2M_GATEWAY_MODE_THREADED);
}

void test_polled_callbacks_may_not_poll(void)
{
    refuses_inside(LWM2M_GATEWAY_MODE_POLLED);
}

static void refused_in_log(struct notes *notes, const struct seen *seen)
{
    lwm2m_gateway_message message = message_of("lwm2m/x/dn/dm", "{}");
    char *json;
    (void)seen;
    if (notes->gateway == NULL)
        return; /* inside of lwm2m_gateway_create() */
    CHECK_STATUS(lwm2m_gateway_deliver(notes->gateway, &message), BUSY);
    CHECK_STATUS(lwm2m_gateway_statistics(notes->gateway, &json), BUSY);
    CHECK_STATUS(lwm2m_gateway_listeners(notes->gateway, &json), BUSY);
    CHECK_STATUS(lwm2m_gateway_free(notes->gateway), BUSY);
    notes->publish_result = 17; /* it was here */
}

static void calls_in_wakeup(void *user_data)
{
    struct notes *notes = (struct notes *)user_data;
    char *json;
    if (notes->gateway == NULL)
        return; /* inside of lwm2m_gateway_create() */
    CHECK_STATUS(lwm2m_gateway_poll(notes->gateway, 0, NULL), BUSY);
    CHECK_STATUS(lwm2m_gateway_listeners(notes->gateway, &json), BUSY);
    notes->wakeups++;
}

void test_wakeup_may_not_call(void)
{
    struct notes notes;
    lwm2m_gateway_options options;
    lwm2m_gateway *gateway;
    notes_init(&notes);
    options = noting(&notes, LWM2M_GATEWAY_MODE_POLLED);
    options.wakeup = calls_in_wakeup;
    gateway = start(&notes, &options, "");
    CHECK(notes.wakeups == 1);
    stop_and_free(gateway, &notes);
}

void test_log_may_not_call(void)
{
    struct notes notes;
    lwm2m_gateway_options options;
    lwm2m_gateway *gateway;
    notes_init(&notes);
    notes.inside = refused_in_log;
    notes.inside_of = 'l';
    options = noting(&notes, LWM2M_GATEWAY_MODE_THREADED);
    options.log_level = LWM2M_GATEWAY_LOG_LEVEL_DEBUG;
    gateway = start(&notes, &options, "");
    OK(lwm2m_gateway_reload(gateway, NULL));
    wait_for(&notes, 'l', "reloaded");
    CHECK(notes.publish_result == 17);
    stop_and_free(gateway, &notes);
}

/* Each has its callbacks, its log and its end. */
void test_two_gateways(void)
{
    struct notes first, second;
    struct device one, two;
    lwm2m_gateway_options options;
    lwm2m_gateway *threaded, *polled;
    notes_init(&first);
    notes_init(&second);
    options = noting(&first, LWM2M_GATEWAY_MODE_THREADED);
    options.log_level = LWM2M_GATEWAY_LOG_LEVEL_DEBUG;
    threaded = start(&first, &options, "");
    options = noting(&second, LWM2M_GATEWAY_MODE_POLLED);
    options.log_level = LWM2M_GATEWAY_LOG_LEVEL_ERROR;
    polled = start(&second, &options, "mountpoint = 'two/${endpoint_name}/'");
    device_open(&one, port_of(threaded));
    device_open(&two, port_of(polled));
    CHECK(device_register(&one, "same") == 201);
    CHECK(device_register(&two, "same") == 201);
    CHECK(strcmp(wait_for(&first, 'p', "register")->name, "lwm2m/same/up/resp") == 0);
    CHECK(strcmp(wait_for(&second, 'p', "register")->name, "two/same/up/resp") == 0);
    CHECK(count_of(&first, 'l', "") > 0);
    CHECK(count_of(&second, 'l', "") == 0);
    device_close(&one);
    stop_and_free(threaded, &first);
    CHECK(device_update(&two) == 204);
    CHECK(counter(polled, "registrations") == 1);
    CHECK(count_of(&second, 'l', "") == 0);
    device_close(&two);
    stop_and_free(polled, &second);
}

enum { THREADS = 6, ROUNDS = 150 };

static void *caller(void *argument)
{
    struct notes *notes = (struct notes *)argument;
    struct device device;
    char endpoint[32], expected[64], *json;
    int i;
    snprintf(endpoint, sizeof endpoint, "dev-%lx", (unsigned long)pthread_self());
    snprintf(expected, sizeof expected, "\"endpoint\":\"%s\"", endpoint);
    device_open(&device, port_of(notes->gateway));
    CHECK(device_register(&device, endpoint) == 201);
    for (i = 0; i < ROUNDS; i++) {
        deliver_read(notes->gateway, "nobody", i);
        if (i % 10 == 0) {
            OK(lwm2m_gateway_device(notes->gateway, endpoint, &json));
            CHECK(strstr(json, expected) != NULL);
            lwm2m_gateway_string_free(json);
            CHECK(device_update(&device) == 204);
        }
        if (i % 50 == 0)
            OK(lwm2m_gateway_reload(notes->gateway, NULL));
        CHECK_STATUS(lwm2m_gateway_kick(notes->gateway, expected), LWM2M_GATEWAY_STATUS_NOT_FOUND);
        CHECK(strstr(lwm2m_gateway_last_error(), endpoint) != NULL);
    }
    OK(lwm2m_gateway_kick(notes->gateway, endpoint));
    device_close(&device);
    return NULL;
}

static void *stopper(void *argument)
{
    OK(lwm2m_gateway_stop(((struct notes *)argument)->gateway, 20000));
    return NULL;
}

void test_many_threads(void)
{
    struct notes notes;
    lwm2m_gateway_options options;
    lwm2m_gateway *gateway;
    pthread_t threads[THREADS];
    size_t i;
    notes_init(&notes);
    options = noting(&notes, LWM2M_GATEWAY_MODE_THREADED);
    options.log = NULL;
    options.device_event = NULL;
    gateway = start(&notes, &options, "shards = 3");
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, caller, &notes) == 0);
    for (i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, stopper, &notes) == 0);
    for (i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(counter(gateway, "commands") == THREADS * ROUNDS);
    CHECK(count_of(&notes, 'p', "not_registered") == THREADS * ROUNDS);
    CHECK(counter(gateway, "registered") == THREADS);
    OK(lwm2m_gateway_free(gateway));
    notes_free(&notes);
}

static void block(struct notes *notes, const struct seen *seen)
{
    (void)seen;
    pthread_mutex_lock((pthread_mutex_t *)notes->extra);
    pthread_mutex_unlock((pthread_mutex_t *)notes->extra);
}

void test_stop_deadline(void)
{
    struct notes notes;
    lwm2m_gateway_options options;
    lwm2m_gateway *gateway;
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    notes_init(&notes);
    notes.extra = &gate;
    notes.inside = block;
    notes.inside_of = 'p';
    options = noting(&notes, LWM2M_GATEWAY_MODE_THREADED);
    gateway = start(&notes, &options, "");
    pthread_mutex_lock(&gate);
    deliver_read(gateway, "nobody", 1);
    wait_for(&notes, 'p', "\"reqID\":1");
    CHECK_STATUS(lwm2m_gateway_stop(gateway, 50), LWM2M_GATEWAY_STATUS_TIMEOUT);
    CHECK_STATUS(lwm2m_gateway_stop(gateway, 0), LWM2M_GATEWAY_STATUS_TIMEOUT);
    pthread_mutex_unlock(&gate);
    stop_and_free(gateway, &notes);
}

static void *start_late(void *argument)
{
    OK(lwm2m_gateway_start(((struct notes *)argument)->gateway));
    return NULL;
}

/* Asking does not wait for a start that is under way, and counts all the same. */
void test_stop_during_start(void)
{
    struct notes notes;
    lwm2m_gateway_options options;
    lwm2m_gateway *gateway;
    pthread_t thread;
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    notes_init(&notes);
    notes.extra = &gate;
    notes.inside = block;
    notes.inside_of = '+';
    options = noting(&notes, LWM2M_GATEWAY_MODE_THREADED);
    OK(lwm2m_gateway_create(&options, "listeners.udp.default.bind = '127.0.0.1:0'", &gateway));
    notes.gateway = gateway;
    pthread_mutex_lock(&gate);
    CHECK(pthread_create(&thread, NULL, start_late, &notes) == 0);
    wait_for(&notes, '+', "");
    CHECK_STATUS(lwm2m_gateway_stop(gateway, 0), LWM2M_GATEWAY_STATUS_TIMEOUT);
    CHECK_STATUS(lwm2m_gateway_reload(gateway, NULL), LWM2M_GATEWAY_STATUS_STATE);
    pthread_mutex_unlock(&gate);
    pthread_join(thread, NULL);
    CHECK_STATUS(lwm2m_gateway_start(gateway), LWM2M_GATEWAY_STATUS_STATE);
    stop_and_free(gateway, &notes);
}

static void dawdle(struct notes *notes, const struct seen *seen)
{
    (void)seen;
    *(volatile int *)notes->extra = 1;
    sleep_ms(300);
    *(volatile int *)notes->extra = 2;
}

void test_free_waits_for_callbacks(void)
{
    struct notes notes;
    lwm2m_gateway_options options;
    lwm2m_gateway *gateway;
    volatile int *state = (volatile int *)calloc(1, sizeof *state);
    notes_init(&notes);
    notes.extra = (void *)state;
    notes.inside = dawdle;
    notes.inside_of = 'p';
    options = noting(&notes, LWM2M_GATEWAY_MODE_THREADED);
    gateway = start(&notes, &options, "");
    deliver_read(gateway, "nobody", 1);
    wait_for(&notes, 'p', "\"reqID\":1");
    OK(lwm2m_gateway_free(gateway));
    CHECK(*state == 2);
    free((void *)state);
    notes_free(&notes);
}

void test_free_without_stop(void)
{
    struct notes notes;
    lwm2m_gateway *gateway;
    gateway = begin(&notes, LWM2M_GATEWAY_MODE_POLLED, "");
    deliver_read(gateway, "nobody", 1);
    OK(lwm2m_gateway_free(gateway));
    CHECK(count_of(&notes, 'p', "") == 0);
    notes_free(&notes);
}

static size_t descriptors(void)
{
    int fd;
    size_t count = 0;
    for (fd = 0; fd < 512; fd++)
        count += dup2(fd, fd) == fd;
    return count;
}

/* Nothing stays behind. */
void test_many_gateways(void)
{
    size_t before = descriptors();
    int i;
    for (i = 0; i < 30; i++) {
        struct notes notes;
        uint32_t mode = i % 2 == 0 ? LWM2M_GATEWAY_MODE_THREADED : LWM2M_GATEWAY_MODE_POLLED;
        lwm2m_gateway *gateway = begin(&notes, mode, "shards = 1");
        OK(lwm2m_gateway_free(gateway));
        notes_free(&notes);
    }
    CHECK(descriptors() == before);
}
