/* What the tests share: checks, and a host that notes what it is told. */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "lwm2m_gateway.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail(__FILE__, __LINE__, #condition);                                                  \
    } while (0)

/* The status and the text of the error. */
#define CHECK_STATUS(call, expected) check_status(__FILE__, __LINE__, #call, (call), (expected))
#define OK(call) CHECK_STATUS(call, LWM2M_GATEWAY_STATUS_OK)

enum { MAX_SEEN = 4096 };

/* A callback as it was made. */
struct seen {
    char what; /* p(ublish) +(subscribe) -(unsubscribe) l(og) e(vent) a(uthorize) k(ey) d(urable) */
    int number; /* kind, QoS, level or status */
    uint64_t id; /* of a question; bytes of correlation data */
    char name[128]; /* topic, filter, target, endpoint or identity */
    char *text; /* payload, line or JSON */
    pthread_t thread;
};

struct notes {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct seen seen[MAX_SEEN];
    size_t count;
    int wakeups;
    /* Called inside of each callback of `what`, without the lock. */
    void (*inside)(struct notes *notes, const struct seen *seen);
    char inside_of;
    lwm2m_gateway *gateway;
    int publish_result;
    void *extra;
};

void fail(const char *file, int line, const char *what);
void check_status(const char *file, int line, const char *call, lwm2m_gateway_status got,
                  lwm2m_gateway_status expected);

/* Options whose callbacks note what they are told. */
lwm2m_gateway_options noting(struct notes *notes, uint32_t mode);
lwm2m_gateway_options authorizing(struct notes *notes, uint32_t mode);
void notes_init(struct notes *notes);
void notes_free(struct notes *notes);

/* Makes and starts a gateway with one UDP listener at any port of 127.0.0.1; `config` is added. */
lwm2m_gateway *start(struct notes *notes, const lwm2m_gateway_options *options,
                     const char *config);
/* The same with fresh notes and the options of `noting`. */
lwm2m_gateway *begin(struct notes *notes, uint32_t mode, const char *config);
uint16_t port_of(const lwm2m_gateway *gateway);
void stop_and_free(lwm2m_gateway *gateway, struct notes *notes);

/* Waits for a callback whose text holds `text` and polls meanwhile in polled mode. */
struct seen *wait_for(struct notes *notes, char what, const char *text);
size_t count_of(struct notes *notes, char what, const char *text);

lwm2m_gateway_message message_of(const char *topic, const char *payload);
/* A `read` of /3/0/0 for an endpoint. */
void deliver_read(lwm2m_gateway *gateway, const char *endpoint, int request_id);
struct device;
/* A function on a thread of its own, with the host polling meanwhile. */
struct task {
    struct device *device;
    const char *endpoint;
    int (*run)(struct device *device, const char *endpoint);
    int result;
    bool done;
    pthread_mutex_t lock;
};
void *run_task(void *task);
bool is_done(struct task *task);
/* Runs something of a device on a thread of its own, with the host polling meanwhile. */
int polling(struct notes *notes, struct device *device, const char *endpoint,
            int (*run)(struct device *device, const char *endpoint));
long counter(const lwm2m_gateway *gateway, const char *name);

#endif
