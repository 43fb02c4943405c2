/*
 * The library is loaded, used and unloaded again, several times.
 *
 *   unload LIBRARY
 */
#define _GNU_SOURCE /* RTLD_NOLOAD */

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "lwm2m_gateway.h"

static int published;

static int publish(void *user_data, const lwm2m_gateway_publication *publication)
{
    (void)user_data;
    published += strstr(publication->topic, "nobody") != NULL;
    return 0;
}

static void write_log(void *user_data, lwm2m_gateway_log_level level, const char *target,
                      const char *text)
{
    (void)user_data, (void)level, (void)target, (void)text;
}

static int use(void *library)
{
    lwm2m_gateway_status (*create)(const lwm2m_gateway_options *, const char *, lwm2m_gateway **);
    lwm2m_gateway_status (*start)(lwm2m_gateway *);
    lwm2m_gateway_status (*deliver)(lwm2m_gateway *, const lwm2m_gateway_message *);
    lwm2m_gateway_status (*stop)(lwm2m_gateway *, uint32_t);
    lwm2m_gateway_status (*release)(lwm2m_gateway *);
    lwm2m_gateway_options options;
    lwm2m_gateway_message message;
    lwm2m_gateway *gateway;
    *(void **)&create = dlsym(library, "lwm2m_gateway_create");
    *(void **)&start = dlsym(library, "lwm2m_gateway_start");
    *(void **)&deliver = dlsym(library, "lwm2m_gateway_deliver");
    *(void **)&stop = dlsym(library, "lwm2m_gateway_stop");
    *(void **)&release = dlsym(library, "lwm2m_gateway_free");
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.publish = publish;
    options.log = write_log;
    memset(&message, 0, sizeof message);
    message.size = sizeof message;
    message.topic = "lwm2m/nobody/dn/dm";
    message.topic_length = strlen(message.topic);
    message.payload = (const uint8_t *)"{}";
    message.payload_length = 2;
    return create(&options, "listeners.udp.default.bind = '127.0.0.1:0'", &gateway) == 0 &&
           start(gateway) == 0 && deliver(gateway, &message) == 0 && stop(gateway, 10000) == 0 &&
           release(gateway) == 0;
}

int main(int argc, char **argv)
{
    int round;
    for (round = 1; argc == 2 && round <= 5; round++) {
        void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
        if (library == NULL) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
        if (!use(library) || published != round) {
            fprintf(stderr, "round %d: %d messages\n", round, published);
            return 1;
        }
        dlclose(library);
    }
    printf("%s after unloading\n", dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD) ? "still there" : "gone");
    return 0;
}
