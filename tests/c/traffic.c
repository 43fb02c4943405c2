/* Devices and commands through the C API. */

#define _POSIX_C_SOURCE 200809L

#include <string.h>

#include "device.h"
#include "support.h"

static int registers(struct device *device, const char *endpoint)
{
    return device_register(device, endpoint);
}

static int serves(struct device *device, const char *text)
{
    return device_serve(device, text);
}

static void conversation(uint32_t mode)
{
    struct notes notes;
    struct device device;
    lwm2m_gateway *gateway;
    lwm2m_gateway_message late;
    struct seen *seen;
    char *json;
    gateway = begin(&notes, mode,
                    "publish_deregister = true\ntranslators.response.qos = 2\n"
                    "update_msg_publish_condition = 'always'");
    device_open(&device, port_of(gateway));
    CHECK(polling(&notes, &device, "dev-1", registers) == 201);
    seen = wait_for(&notes, 'p', "\"msgType\":\"register\"");
    CHECK(seen->number == LWM2M_GATEWAY_KIND_REGISTER);
    CHECK(strcmp(seen->name, "lwm2m/dev-1/up/resp") == 0);
    seen = wait_for(&notes, 'e', "\"event\":\"registered\"");
    CHECK(strstr(seen->text, "\"endpoint\":\"dev-1\"") != NULL);

    deliver_read(gateway, "dev-1", 5);
    CHECK(polling(&notes, &device, "Example", serves) == 1);
    seen = wait_for(&notes, 'p', "\"reqID\":5");
    CHECK(seen->number == LWM2M_GATEWAY_KIND_RESPONSE);
    CHECK(strstr(seen->text, "\"value\":\"Example\"") != NULL);

    /* Expired on arrival. */
    late = message_of("lwm2m/dev-1/dn/dm",
                      "{\"reqID\":6,\"msgType\":\"read\",\"data\":{\"path\":\"/3/0/1\"}}");
    late.has_message_expiry = 1;
    OK(lwm2m_gateway_deliver(gateway, &late));
    seen = wait_for(&notes, 'p', "\"reqID\":6");
    CHECK(strstr(seen->text, "\"expired\"") != NULL);

    CHECK(device_update(&device) == 204);
    seen = wait_for(&notes, 'p', "\"msgType\":\"update\"");
    CHECK(seen->number == LWM2M_GATEWAY_KIND_UPDATE);
    wait_for(&notes, 'e', "\"event\":\"updated\"");

    OK(lwm2m_gateway_devices(gateway, &json));
    CHECK(*json == '[' && strstr(json, "\"endpoint\":\"dev-1\"") != NULL);
    CHECK(strstr(json, "\"objects\":[\"/3/0\"]") != NULL);
    lwm2m_gateway_string_free(json);
    OK(lwm2m_gateway_device(gateway, "dev-1", &json));
    CHECK(*json == '{' && strstr(json, "\"lifetime\":300") != NULL);
    lwm2m_gateway_string_free(json);
    CHECK(counter(gateway, "registrations") == 1);

    CHECK(device_deregister(&device) == 202);
    wait_for(&notes, 'p', "\"msgType\":\"deregister\"");
    wait_for(&notes, 'e', "\"reason\":\"deregistered\"");

    CHECK(device_register(&device, "dev-2") == 201);
    OK(lwm2m_gateway_kick(gateway, "dev-2"));
    wait_for(&notes, 'e', "\"reason\":\"kicked\"");
    CHECK(device_update(&device) == 404);
    CHECK_STATUS(lwm2m_gateway_kick(gateway, "dev-2"), LWM2M_GATEWAY_STATUS_NOT_FOUND);
    CHECK(counter(gateway, "registered") == 2);
    CHECK(counter(gateway, "publish_dropped") == 0);
    device_close(&device);
    stop_and_free(gateway, &notes);
}

void test_conversation_threaded(void)
{
    conversation(LWM2M_GATEWAY_MODE_THREADED);
}

void test_conversation_polled(void)
{
    conversation(LWM2M_GATEWAY_MODE_POLLED);
}

void test_json_config(void)
{
    struct notes notes;
    lwm2m_gateway_options options;
    lwm2m_gateway *gateway;
    notes_init(&notes);
    options = noting(&notes, LWM2M_GATEWAY_MODE_THREADED);
    OK(lwm2m_gateway_create(&options,
                            " {\"mountpoint\": \"j/${endpoint_name}/\", \"listeners\": {\"udp\": "
                            "{\"default\": {\"bind\": \"127.0.0.1:0\"}}}}",
                            &gateway));
    OK(lwm2m_gateway_start(gateway));
    CHECK(count_of(&notes, '+', "j/+/dn/#") == 1);
    CHECK(port_of(gateway) != 0);
    stop_and_free(gateway, &notes);
}

void test_reload(void)
{
    struct notes notes;
    struct device device;
    lwm2m_gateway *gateway;
    char *json;
    gateway = begin(&notes, LWM2M_GATEWAY_MODE_THREADED, "");
    device_open(&device, port_of(gateway));
    CHECK(device_register(&device, "dev-r") == 201);

    CHECK_STATUS(lwm2m_gateway_reload(gateway, "publish_deregister = 7\nmountpont = 'x'"),
                 LWM2M_GATEWAY_STATUS_CONFIG);
    CHECK(strstr(lwm2m_gateway_last_error(), "mountpoint") != NULL);
    CHECK(strstr(lwm2m_gateway_last_error(), "publish_deregister") != NULL);
    CHECK_STATUS(lwm2m_gateway_reload(gateway, "xml_dir = '/nowhere'"),
                 LWM2M_GATEWAY_STATUS_SYSTEM);

    OK(lwm2m_gateway_reload(gateway, "publish_deregister = true\nshards = 7\n"
                                     "translators.command.topic = 'orders'\n"
                                     "listeners.udp.default.bind = '127.0.0.1:0'\n"
                                     "listeners.udp.second.bind = '127.0.0.1:0'"));
    OK(lwm2m_gateway_listeners(gateway, &json));
    CHECK(strstr(json, "\"udp:second\"") != NULL);
    lwm2m_gateway_string_free(json);
    CHECK(count_of(&notes, 'l', "next start") == 1);
    CHECK(count_of(&notes, '-', "lwm2m/+/dn/#") == 1);
    CHECK(count_of(&notes, '+', "lwm2m/+/orders") == 1);
    CHECK(lwm2m_gateway_is_command(gateway, "lwm2m/dev-r/orders", 18) == 1);
    CHECK(device_update(&device) == 204);
    CHECK(device_deregister(&device) == 202);
    wait_for(&notes, 'p', "\"msgType\":\"deregister\"");
    OK(lwm2m_gateway_reload(gateway, NULL));
    CHECK(lwm2m_gateway_is_command(gateway, "lwm2m/dev-r/orders", 18) == 1);
    device_close(&device);
    stop_and_free(gateway, &notes);
}

/* More than a datagram takes: the device gets the beginning. */
static const char *long_reason(void)
{
    static char reason[70000];
    memset(reason, 'x', sizeof reason - 1);
    return reason;
}

/* The endpoint says what the host thinks of it. */
static void decide(struct notes *notes, const struct seen *seen)
{
    lwm2m_gateway *gateway = notes->gateway;
    if (strncmp(seen->name, "no-", 3) == 0)
        OK(lwm2m_gateway_answer_authorization(gateway, seen->id, LWM2M_GATEWAY_DECISION_DENY,
                                              long_reason()));
    else if (strncmp(seen->name, "later-", 6) == 0)
        OK(lwm2m_gateway_answer_authorization(gateway, seen->id,
                                              LWM2M_GATEWAY_DECISION_UNAVAILABLE, NULL));
    else if (strncmp(seen->name, "site-", 5) == 0)
        OK(lwm2m_gateway_answer_authorization(gateway, seen->id, LWM2M_GATEWAY_DECISION_ALLOW,
                                              "site/7/"));
    else
        OK(lwm2m_gateway_answer_authorization(gateway, seen->id, LWM2M_GATEWAY_DECISION_ALLOW,
                                              NULL));
    CHECK_STATUS(lwm2m_gateway_answer_authorization(gateway, seen->id, 0, NULL),
                 LWM2M_GATEWAY_STATUS_NOT_FOUND);
}

static void authorization(uint32_t mode, uint32_t subscriptions)
{
    struct notes notes;
    struct device device;
    lwm2m_gateway_options options;
    lwm2m_gateway *gateway;
    lwm2m_gateway_message command;
    struct seen *seen;
    notes_init(&notes);
    notes.inside = decide;
    notes.inside_of = 'a';
    options = authorizing(&notes, mode);
    options.subscriptions = subscriptions;
    gateway = start(&notes, &options, "");
    device_open(&device, port_of(gateway));
    CHECK(polling(&notes, &device, "yes-1", registers) == 201);
    seen = wait_for(&notes, 'a', "\"endpoint\":\"yes-1\"");
    CHECK(strstr(seen->text, "\"lifetime\":300") != NULL);
    CHECK(strcmp(wait_for(&notes, 'p', "yes-1")->name, "lwm2m/yes-1/up/resp") == 0);
    CHECK(polling(&notes, &device, "no-1", registers) == 403);
    CHECK(polling(&notes, &device, "later-1", registers) == 503);
    CHECK(polling(&notes, &device, "site-1", registers) == 201);
    CHECK(strcmp(wait_for(&notes, 'p', "site-1")->name, "site/7/up/resp") == 0);
    CHECK(counter(gateway, "registered") == 2);
    /* Commands come by the mountpoint that the host gave. */
    if (subscriptions == LWM2M_GATEWAY_SUBSCRIPTIONS_PER_DEVICE)
        wait_for(&notes, '+', "site/7/dn/#");
    CHECK(lwm2m_gateway_is_command(gateway, "site/7/dn", 9) == 1);
    CHECK(lwm2m_gateway_is_command(gateway, "site/8/dn", 9) == 0);
    command = message_of("site/7/dn/dm",
                         "{\"reqID\":8,\"msgType\":\"read\",\"data\":{\"path\":\"/3/0/0\"}}");
    OK(lwm2m_gateway_deliver(gateway, &command));
    CHECK(device_serve(&device, "ACME") == 1);
    seen = wait_for(&notes, 'p', "\"reqID\":8");
    CHECK(strcmp(seen->name, "site/7/up/resp") == 0 && strstr(seen->text, "ACME") != NULL);
    device_close(&device);
    stop_and_free(gateway, &notes);
}

void test_authorization_threaded(void)
{
    authorization(LWM2M_GATEWAY_MODE_THREADED, LWM2M_GATEWAY_SUBSCRIPTIONS_SHARED);
}

void test_authorization_polled(void)
{
    authorization(LWM2M_GATEWAY_MODE_POLLED, LWM2M_GATEWAY_SUBSCRIPTIONS_PER_DEVICE);
}

/* Answered by another thread than the one that was asked; some are never answered. */
void test_authorization_later(void)
{
    struct notes notes;
    struct device device, other;
    lwm2m_gateway_options options;
    lwm2m_gateway *gateway;
    struct task task = {&device, "slow", registers, 0, false, PTHREAD_MUTEX_INITIALIZER};
    struct task never = {&other, "never", registers, 0, false, PTHREAD_MUTEX_INITIALIZER};
    struct seen *seen;
    pthread_t thread, second;
    notes_init(&notes);
    options = authorizing(&notes, LWM2M_GATEWAY_MODE_THREADED);
    gateway = start(&notes, &options, "");
    device_open(&device, port_of(gateway));
    device_open(&other, port_of(gateway));
    device_patience(&other, 1);
    CHECK(pthread_create(&thread, NULL, run_task, &task) == 0);
    CHECK(pthread_create(&second, NULL, run_task, &never) == 0);
    seen = wait_for(&notes, 'a', "\"slow\"");
    wait_for(&notes, 'a', "\"never\"");
    CHECK(!is_done(&task));
    OK(lwm2m_gateway_answer_authorization(gateway, seen->id, LWM2M_GATEWAY_DECISION_ALLOW, NULL));
    pthread_join(thread, NULL);
    CHECK(task.result == 201);
    stop_and_free(gateway, &notes);
    pthread_join(second, NULL);
    CHECK(never.result != 201);
    device_close(&device);
    device_close(&other);
}

void test_subscriptions_per_device(void)
{
    struct notes notes;
    struct device device;
    lwm2m_gateway_options options;
    lwm2m_gateway *gateway;
    notes_init(&notes);
    options = noting(&notes, LWM2M_GATEWAY_MODE_POLLED);
    options.subscriptions = LWM2M_GATEWAY_SUBSCRIPTIONS_PER_DEVICE;
    gateway = start(&notes, &options, "translators.command.qos = 1");
    OK(lwm2m_gateway_poll(gateway, 0, NULL));
    CHECK(count_of(&notes, '+', "") == 0);
    device_open(&device, port_of(gateway));
    CHECK(device_register(&device, "own") == 201);
    CHECK(wait_for(&notes, '+', "lwm2m/own/dn/#")->number == 1);
    CHECK(device_deregister(&device) == 202);
    wait_for(&notes, '-', "lwm2m/own/dn/#");
    /* Come and gone between two polls: nothing to do. */
    CHECK(device_register(&device, "brief") == 201);
    CHECK(device_deregister(&device) == 202);
    wait_for(&notes, 'e', "\"endpoint\":\"brief\",\"reason\"");
    CHECK(count_of(&notes, '+', "brief") == 0 && count_of(&notes, '-', "brief") == 0);
    device_close(&device);
    stop_and_free(gateway, &notes);
}

static size_t lines_above(struct notes *notes, int level)
{
    size_t i, count = 0;
    for (i = 0; i < notes->count; i++)
        count += notes->seen[i].what == 'l' && notes->seen[i].number > level;
    return count;
}

void test_log_levels(void)
{
    struct notes notes;
    struct device device;
    lwm2m_gateway_options options;
    lwm2m_gateway *gateway;
    /* The configuration decides. */
    gateway = begin(&notes, LWM2M_GATEWAY_MODE_THREADED, "log.level = 'debug'");
    device_open(&device, port_of(gateway));
    CHECK(device_register(&device, "loud") == 201);
    CHECK(lines_above(&notes, LWM2M_GATEWAY_LOG_LEVEL_INFO) > 0);
    CHECK(lines_above(&notes, LWM2M_GATEWAY_LOG_LEVEL_DEBUG) == 0);
    OK(lwm2m_gateway_reload(gateway, "log.level = 'off'"));
    device_close(&device);
    stop_and_free(gateway, &notes);
    /* The options decide. */
    notes_init(&notes);
    options = noting(&notes, LWM2M_GATEWAY_MODE_THREADED);
    options.log_level = LWM2M_GATEWAY_LOG_LEVEL_WARN;
    gateway = start(&notes, &options, "log.level = 'debug'");
    device_open(&device, port_of(gateway));
    CHECK(device_register(&device, "quiet") == 201);
    CHECK(lines_above(&notes, LWM2M_GATEWAY_LOG_LEVEL_WARN) == 0);
    device_close(&device);
    stop_and_free(gateway, &notes);
}

void test_refused_messages(void)
{
    struct notes notes;
    lwm2m_gateway_options options;
    lwm2m_gateway *gateway;
    notes_init(&notes);
    notes.publish_result = -1;
    options = noting(&notes, LWM2M_GATEWAY_MODE_THREADED);
    gateway = start(&notes, &options, "");
    deliver_read(gateway, "nobody", 1);
    wait_for(&notes, 'p', "\"reqID\":1");
    OK(lwm2m_gateway_stop(gateway, 10000));
    CHECK(counter(gateway, "publish_dropped") == 1);
    OK(lwm2m_gateway_free(gateway));
    notes_free(&notes);
}
