/* Polled mode: who calls, when, and what happens when nobody polls. */

#define _POSIX_C_SOURCE 200809L

#include <poll.h>
#include <string.h>

#include "support.h"

static bool readable(const lwm2m_gateway *gateway, int wait_ms)
{
    struct pollfd fd = {lwm2m_gateway_fd(gateway), POLLIN, 0};
    return poll(&fd, 1, wait_ms) == 1;
}

static void *deliver_many(void *argument)
{
    struct notes *notes = (struct notes *)argument;
    int i;
    for (i = 0; i < 50; i++)
        deliver_read(notes->gateway, "nobody", 1000 + i);
    return NULL;
}

void test_polled_on_one_thread(void)
{
    struct notes notes;
    lwm2m_gateway_options options;
    lwm2m_gateway *gateway;
    pthread_t thread;
    size_t i;
    notes_init(&notes);
    options = noting(&notes, LWM2M_GATEWAY_MODE_POLLED);
    options.log_level = LWM2M_GATEWAY_LOG_LEVEL_DEBUG;
    gateway = start(&notes, &options, "");
    CHECK(pthread_create(&thread, NULL, deliver_many, &notes) == 0);
    pthread_join(thread, NULL);
    CHECK(notes.count == 0 && notes.wakeups > 0);
    wait_for(&notes, 'p', "\"reqID\":1049");
    for (i = 0; i < notes.count; i++)
        CHECK(pthread_equal(notes.seen[i].thread, pthread_self()));
    CHECK(count_of(&notes, 'p', "\"reqID\":10") == 50);
    stop_and_free(gateway, &notes);
}

void test_polled_in_portions(void)
{
    struct notes notes;
    lwm2m_gateway *gateway;
    size_t waiting, seen;
    gateway = begin(&notes, LWM2M_GATEWAY_MODE_POLLED, "");
    wait_for(&notes, '+', "lwm2m/+/dn/#");
    OK(lwm2m_gateway_poll(gateway, 0, &waiting));
    CHECK(waiting == 0 && !readable(gateway, 0));
    deliver_many(&notes);
    while (counter(gateway, "host_queue") < 50)
        CHECK(readable(gateway, 5000));
    seen = notes.count;
    notes.wakeups = 0;
    OK(lwm2m_gateway_poll(gateway, 20, &waiting));
    CHECK(notes.count == seen + 20 && waiting == 30);
    CHECK(readable(gateway, 0) && notes.wakeups == 1);
    OK(lwm2m_gateway_poll(gateway, 0, &waiting));
    CHECK(notes.count == seen + 50 && waiting == 0);
    CHECK(!readable(gateway, 0));
    stop_and_free(gateway, &notes);
}

void test_polled_overflow(void)
{
    struct notes notes;
    lwm2m_gateway_options options;
    lwm2m_gateway *gateway;
    notes_init(&notes);
    options = noting(&notes, LWM2M_GATEWAY_MODE_POLLED);
    options.log_level = LWM2M_GATEWAY_LOG_LEVEL_WARN;
    options.queue_limit = 10;
    gateway = start(&notes, &options, "");
    /* The subscription and nine messages fit; the commands themselves are all taken. */
    deliver_many(&notes);
    while (counter(gateway, "host_queue_overflow") < 41)
        ;
    CHECK(counter(gateway, "commands") == 50);
    CHECK(counter(gateway, "publish_dropped") == 41);
    CHECK(counter(gateway, "host_queue") == 10);
    wait_for(&notes, 'l', "41 callbacks were dropped");
    CHECK(count_of(&notes, 'p', "") == 9 && count_of(&notes, '+', "") == 1);
    /* And on it goes. */
    deliver_read(gateway, "nobody", 7);
    wait_for(&notes, 'p', "\"reqID\":7,");
    CHECK(count_of(&notes, 'l', "dropped") == 1);
    stop_and_free(gateway, &notes);

    notes_init(&notes);
    options = noting(&notes, LWM2M_GATEWAY_MODE_POLLED);
    options.log_level = LWM2M_GATEWAY_LOG_LEVEL_WARN;
    options.queue_bytes = 2000;
    gateway = start(&notes, &options, "");
    deliver_many(&notes);
    while (counter(gateway, "host_queue") + counter(gateway, "host_queue_overflow") < 51)
        ;
    CHECK(counter(gateway, "host_queue") < 12);
    stop_and_free(gateway, &notes);
}

void test_polled_after_stop(void)
{
    struct notes notes;
    lwm2m_gateway *gateway;
    gateway = begin(&notes, LWM2M_GATEWAY_MODE_POLLED, "");
    deliver_read(gateway, "nobody", 3);
    OK(lwm2m_gateway_stop(gateway, 10000));
    CHECK(count_of(&notes, 'p', "") == 0 && readable(gateway, 0));
    OK(lwm2m_gateway_poll(gateway, 0, NULL));
    CHECK(count_of(&notes, 'p', "\"reqID\":3") == 1);
    OK(lwm2m_gateway_free(gateway));
    notes_free(&notes);
}

static void hold(struct notes *notes, const struct seen *seen)
{
    pthread_barrier_t *barrier = (pthread_barrier_t *)notes->extra;
    (void)seen;
    pthread_barrier_wait(barrier);
    pthread_barrier_wait(barrier);
}

static void *poll_once(void *argument)
{
    OK(lwm2m_gateway_poll(((struct notes *)argument)->gateway, 1, NULL));
    return NULL;
}

void test_polled_at_once(void)
{
    struct notes notes;
    lwm2m_gateway_options options;
    lwm2m_gateway *gateway;
    pthread_barrier_t barrier;
    pthread_t thread;
    pthread_barrier_init(&barrier, NULL, 2);
    notes_init(&notes);
    notes.extra = &barrier;
    notes.inside = hold;
    notes.inside_of = '+';
    options = noting(&notes, LWM2M_GATEWAY_MODE_POLLED);
    gateway = start(&notes, &options, "");
    CHECK(pthread_create(&thread, NULL, poll_once, &notes) == 0);
    pthread_barrier_wait(&barrier);
    /* The other thread is inside of a callback. */
    CHECK_STATUS(lwm2m_gateway_poll(gateway, 0, NULL), LWM2M_GATEWAY_STATUS_BUSY);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
    OK(lwm2m_gateway_poll(gateway, 0, NULL));
    pthread_barrier_destroy(&barrier);
    stop_and_free(gateway, &notes);
}
