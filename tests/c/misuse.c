/* What a host may do wrong: each has a defined outcome. */

#define _POSIX_C_SOURCE 200809L

#include <limits.h>
#include <sched.h>
#include <string.h>

#include "support.h"

#define A LWM2M_GATEWAY_STATUS_ARGUMENT
#define S LWM2M_GATEWAY_STATUS_STATE

/* A program built with this header goes on with every library of its ABI version. */
_Static_assert(LWM2M_GATEWAY_ABI_VERSION == 0, "sizes below are of ABI version 0");
_Static_assert(sizeof(lwm2m_gateway_status) == 4, "enum");
#if UINTPTR_MAX == UINT64_MAX
_Static_assert(sizeof(lwm2m_gateway_options) == 120, "options");
_Static_assert(offsetof(lwm2m_gateway_options, publish) == 24, "options");
_Static_assert(sizeof(lwm2m_gateway_message) == 96, "message");
_Static_assert(sizeof(lwm2m_gateway_publication) == 72, "publication");
_Static_assert(sizeof(lwm2m_gateway_registration) == 48, "registration");
_Static_assert(sizeof(lwm2m_gateway_psk_request) == 48, "psk_request");
#endif

static const char *const NO_LISTENER = "listeners.udp.default.bind = '127.0.0.1:0'";

void test_versions(void)
{
    unsigned major, minor, patch;
    CHECK(lwm2m_gateway_abi_version() == LWM2M_GATEWAY_ABI_VERSION);
    CHECK(sscanf(lwm2m_gateway_version(), "%u.%u.%u", &major, &minor, &patch) == 3);
    lwm2m_gateway_string_free(NULL);
}

static void refuse(const lwm2m_gateway_options *options, const char *config,
                   lwm2m_gateway_status status, const char *text)
{
    lwm2m_gateway *gateway = (lwm2m_gateway *)(uintptr_t)1;
    CHECK_STATUS(lwm2m_gateway_create(options, config, &gateway), status);
    CHECK(gateway == NULL);
    if (strstr(lwm2m_gateway_last_error(), text) == NULL)
        fail(__FILE__, __LINE__, text);
}

void test_create_misuse(void)
{
    struct notes notes;
    lwm2m_gateway_options options, wrong;
    notes_init(&notes);
    options = noting(&notes, LWM2M_GATEWAY_MODE_THREADED);
    CHECK_STATUS(lwm2m_gateway_create(&options, NULL, NULL), A);
    refuse(NULL, NULL, A, "options is NULL");
    wrong = options;
    wrong.publish = NULL;
    refuse(&wrong, NULL, A, "publish");
    wrong = options;
    wrong.mode = 2;
    refuse(&wrong, NULL, A, "mode");
    wrong = options;
    wrong.subscriptions = 7;
    refuse(&wrong, NULL, A, "subscriptions");
    wrong = options;
    wrong.log_level = 6;
    refuse(&wrong, NULL, A, "log_level");
    notes_free(&notes);
}

void test_create_sizes(void)
{
    struct {
        lwm2m_gateway_options options;
        char later[64];
    } newer;
    lwm2m_gateway_options older;
    lwm2m_gateway *gateway;
    struct notes notes;
    size_t size;
    notes_init(&notes);
    memset(&newer, 0, sizeof newer);
    newer.options = noting(&notes, LWM2M_GATEWAY_MODE_POLLED);
    newer.options.size = sizeof newer;
    OK(lwm2m_gateway_create(&newer.options, NULL, &gateway));
    OK(lwm2m_gateway_free(gateway));
    newer.later[63] = 1;
    refuse(&newer.options, NULL, A, "does not know");

    /* What an older header does not have is not read. */
    older = noting(&notes, LWM2M_GATEWAY_MODE_POLLED);
    older.log_level = 99;
    older.size = offsetof(lwm2m_gateway_options, subscribe);
    OK(lwm2m_gateway_create(&older, NULL, &gateway));
    OK(lwm2m_gateway_start(gateway));
    OK(lwm2m_gateway_poll(gateway, 0, NULL));
    CHECK(notes.count == 0);
    OK(lwm2m_gateway_free(gateway));
    for (size = 0; size < offsetof(lwm2m_gateway_options, subscribe); size++) {
        older.size = size;
        refuse(&older, NULL, A, "size");
    }
    older.size = SIZE_MAX;
    refuse(&older, NULL, A, "size");
    older.size = sizeof older - 1;
    refuse(&older, NULL, A, "size");
    notes_free(&notes);
}

void test_create_config(void)
{
    struct notes notes;
    lwm2m_gateway_options options;
    lwm2m_gateway *gateway;
    notes_init(&notes);
    options = noting(&notes, LWM2M_GATEWAY_MODE_THREADED);
    refuse(&options, "\xff\xfe", A, "UTF-8");
    refuse(&options, "lifetime_min = 'soon'\n[coap]\nnstart = 0\n", LWM2M_GATEWAY_STATUS_CONFIG,
           "coap.nstart");
    CHECK(strstr(lwm2m_gateway_last_error(), "\nlifetime_min: ") != NULL);
    refuse(&options, "{\"coap\": {\"nstart\": 0}}", LWM2M_GATEWAY_STATUS_CONFIG, "coap.nstart");
    refuse(&options, "a = [1,", LWM2M_GATEWAY_STATUS_CONFIG, "line 1");
    refuse(&options, "log.level = 'info,engine=loud'", LWM2M_GATEWAY_STATUS_CONFIG, "log.level");
    OK(lwm2m_gateway_create(&options, "", &gateway));
    OK(lwm2m_gateway_free(gateway));
    OK(lwm2m_gateway_create(&options, "gateway.lwm2m.auto_observe = false\nlisteners.udp.x.bind=1\n"
                                      "idle_timeout = '30s'", &gateway));
    OK(lwm2m_gateway_free(gateway));
    /* A key of EMQX without a meaning here: accepted, with a warning. */
    CHECK(count_of(&notes, 'l', "idle_timeout") == 1);
    notes_free(&notes);
}

void test_null_gateway(void)
{
    lwm2m_gateway_message message = message_of("lwm2m/x/dn", "{}");
    char *json = (char *)"untouched";
    size_t waiting;
    CHECK_STATUS(lwm2m_gateway_start(NULL), A);
    CHECK(strstr(lwm2m_gateway_last_error(), "gateway is NULL") != NULL);
    CHECK_STATUS(lwm2m_gateway_deliver(NULL, &message), A);
    CHECK(lwm2m_gateway_is_command(NULL, "t", 1) == 0);
    CHECK_STATUS(lwm2m_gateway_poll(NULL, 0, &waiting), A);
    CHECK(lwm2m_gateway_fd(NULL) == -1);
    CHECK_STATUS(lwm2m_gateway_reload(NULL, ""), A);
    CHECK_STATUS(lwm2m_gateway_statistics(NULL, &json), A);
    CHECK(json == NULL);
    CHECK_STATUS(lwm2m_gateway_listeners(NULL, &json), A);
    CHECK_STATUS(lwm2m_gateway_devices(NULL, &json), A);
    CHECK_STATUS(lwm2m_gateway_device(NULL, "x", &json), A);
    CHECK_STATUS(lwm2m_gateway_kick(NULL, "x"), A);
    CHECK_STATUS(lwm2m_gateway_answer_authorization(NULL, 1, 0, NULL), A);
    CHECK_STATUS(lwm2m_gateway_answer_psk(NULL, 1, NULL, 0), A);
    CHECK_STATUS(lwm2m_gateway_stop(NULL, 0), A);
    OK(lwm2m_gateway_free(NULL));
}

static lwm2m_gateway *create(struct notes *notes, uint32_t mode)
{
    lwm2m_gateway_options options;
    lwm2m_gateway *gateway;
    notes_init(notes);
    options = noting(notes, mode);
    OK(lwm2m_gateway_create(&options, NO_LISTENER, &gateway));
    return gateway;
}

void test_before_start(void)
{
    struct notes notes;
    lwm2m_gateway *gateway = create(&notes, LWM2M_GATEWAY_MODE_THREADED);
    lwm2m_gateway_message message = message_of("lwm2m/x/dn", "{}");
    char *json;
    CHECK_STATUS(lwm2m_gateway_deliver(gateway, &message), S);
    CHECK(strstr(lwm2m_gateway_last_error(), "not started") != NULL);
    CHECK(lwm2m_gateway_is_command(gateway, "lwm2m/x/dn", 10) == 0);
    CHECK_STATUS(lwm2m_gateway_statistics(gateway, &json), S);
    CHECK(json == NULL);
    CHECK_STATUS(lwm2m_gateway_listeners(gateway, &json), S);
    CHECK_STATUS(lwm2m_gateway_devices(gateway, &json), S);
    CHECK_STATUS(lwm2m_gateway_device(gateway, "x", &json), S);
    CHECK_STATUS(lwm2m_gateway_kick(gateway, "x"), S);
    CHECK_STATUS(lwm2m_gateway_poll(gateway, 0, NULL), S);
    CHECK(lwm2m_gateway_fd(gateway) == -1);
    CHECK_STATUS(lwm2m_gateway_statistics(gateway, NULL), A);
    /* The configuration to start with may still change. */
    OK(lwm2m_gateway_reload(gateway, "mountpoint = 'm/${endpoint_name}/'\n"
                                     "listeners.udp.default.bind = '127.0.0.1:0'"));
    OK(lwm2m_gateway_start(gateway));
    CHECK(count_of(&notes, '+', "m/+/dn/#") == 1);
    CHECK_STATUS(lwm2m_gateway_start(gateway), S);
    stop_and_free(gateway, &notes);

    /* Never started: may be stopped and freed, but not started any more. */
    gateway = create(&notes, LWM2M_GATEWAY_MODE_POLLED);
    CHECK(lwm2m_gateway_fd(gateway) >= 0);
    OK(lwm2m_gateway_poll(gateway, 0, NULL));
    OK(lwm2m_gateway_stop(gateway, 0));
    CHECK_STATUS(lwm2m_gateway_start(gateway), S);
    OK(lwm2m_gateway_free(gateway));
    notes_free(&notes);
}

void test_after_stop(void)
{
    struct notes notes;
    lwm2m_gateway *gateway = create(&notes, LWM2M_GATEWAY_MODE_THREADED);
    lwm2m_gateway_message message = message_of("lwm2m/x/dn", "{}");
    char *json;
    OK(lwm2m_gateway_start(gateway));
    OK(lwm2m_gateway_stop(gateway, 10000));
    OK(lwm2m_gateway_stop(gateway, 0));
    CHECK_STATUS(lwm2m_gateway_start(gateway), S);
    CHECK_STATUS(lwm2m_gateway_deliver(gateway, &message), S);
    CHECK(strstr(lwm2m_gateway_last_error(), "stopped") != NULL);
    CHECK(lwm2m_gateway_is_command(gateway, "lwm2m/x/dn", 10) == 0);
    CHECK_STATUS(lwm2m_gateway_reload(gateway, NULL), S);
    CHECK_STATUS(lwm2m_gateway_devices(gateway, &json), S);
    CHECK_STATUS(lwm2m_gateway_device(gateway, "x", &json), S);
    CHECK_STATUS(lwm2m_gateway_kick(gateway, "x"), S);
    CHECK(counter(gateway, "commands") == 0);
    OK(lwm2m_gateway_listeners(gateway, &json));
    lwm2m_gateway_string_free(json);
    OK(lwm2m_gateway_free(gateway));
    notes_free(&notes);
}

void test_start_refused(void)
{
    struct notes notes;
    lwm2m_gateway *first = create(&notes, LWM2M_GATEWAY_MODE_THREADED), *second;
    lwm2m_gateway_options options = noting(&notes, LWM2M_GATEWAY_MODE_THREADED);
    char config[128], address[64];
    OK(lwm2m_gateway_start(first));
    snprintf(address, sizeof address, "127.0.0.1:%u", port_of(first));
    snprintf(config, sizeof config, "listeners.udp.default.bind = '%s'", address);
    OK(lwm2m_gateway_create(&options, config, &second));
    CHECK_STATUS(lwm2m_gateway_start(second), LWM2M_GATEWAY_STATUS_SYSTEM);
    CHECK(strstr(lwm2m_gateway_last_error(), address) != NULL);
    OK(lwm2m_gateway_stop(first, 10000));
    /* The address is free now. */
    OK(lwm2m_gateway_start(second));
    OK(lwm2m_gateway_free(second));
    OK(lwm2m_gateway_create(&options, "xml_dir = '/nowhere/at/all'", &second));
    CHECK_STATUS(lwm2m_gateway_start(second), LWM2M_GATEWAY_STATUS_SYSTEM);
    CHECK(strstr(lwm2m_gateway_last_error(), "/nowhere/at/all") != NULL);
    OK(lwm2m_gateway_free(second));
    stop_and_free(first, &notes);
}

void test_deliver_misuse(void)
{
    struct notes notes;
    lwm2m_gateway *gateway = create(&notes, LWM2M_GATEWAY_MODE_THREADED);
    const lwm2m_gateway_message good = message_of("lwm2m/x/dn/dm", "{}");
    struct {
        lwm2m_gateway_message message;
        uint64_t later;
    } newer;
    lwm2m_gateway_message wrong;
    static char long_topic[65536];
    OK(lwm2m_gateway_start(gateway));
    CHECK_STATUS(lwm2m_gateway_deliver(gateway, NULL), A);
    wrong = good;
    wrong.size = sizeof wrong + 4096;
    CHECK_STATUS(lwm2m_gateway_deliver(gateway, &wrong), A);
    wrong.size = 8;
    CHECK_STATUS(lwm2m_gateway_deliver(gateway, &wrong), A);
    wrong = good;
    wrong.topic = NULL;
    CHECK_STATUS(lwm2m_gateway_deliver(gateway, &wrong), A);
    CHECK(strstr(lwm2m_gateway_last_error(), "topic") != NULL);
    wrong = good;
    wrong.topic_length = 0;
    CHECK_STATUS(lwm2m_gateway_deliver(gateway, &wrong), A);
    wrong = good;
    wrong.topic = "lwm2m/\xc3\x28/dn/dm";
    CHECK_STATUS(lwm2m_gateway_deliver(gateway, &wrong), A);
    wrong = good;
    wrong.topic = "lwm2m/x\0y/dn";
    wrong.topic_length = 12;
    CHECK_STATUS(lwm2m_gateway_deliver(gateway, &wrong), A);
    CHECK(lwm2m_gateway_is_command(gateway, wrong.topic, wrong.topic_length) == 0);
    wrong = message_of("lwm2m/+/dn/dm", "{}");
    CHECK_STATUS(lwm2m_gateway_deliver(gateway, &wrong), A);
    memset(long_topic, 'x', sizeof long_topic);
    wrong = good;
    wrong.topic = long_topic;
    wrong.topic_length = sizeof long_topic;
    CHECK_STATUS(lwm2m_gateway_deliver(gateway, &wrong), A);
    wrong = good;
    wrong.payload = NULL;
    CHECK_STATUS(lwm2m_gateway_deliver(gateway, &wrong), A);
    CHECK(strstr(lwm2m_gateway_last_error(), "payload") != NULL);
    wrong = good;
    wrong.payload_length = SIZE_MAX;
    CHECK_STATUS(lwm2m_gateway_deliver(gateway, &wrong), A);
    wrong = good;
    wrong.qos = 3;
    CHECK_STATUS(lwm2m_gateway_deliver(gateway, &wrong), A);
    wrong = good;
    wrong.retain = 2;
    CHECK_STATUS(lwm2m_gateway_deliver(gateway, &wrong), A);
    wrong = good;
    wrong.has_message_expiry = 255;
    CHECK_STATUS(lwm2m_gateway_deliver(gateway, &wrong), A);
    CHECK(count_of(&notes, 'p', "") == 0);

    memset(&newer, 0, sizeof newer);
    newer.message = good;
    newer.message.size = sizeof newer;
    OK(lwm2m_gateway_deliver(gateway, &newer.message));
    newer.later = 1;
    CHECK_STATUS(lwm2m_gateway_deliver(gateway, &newer.message), A);

    /* An older header knows no QoS and no expiry. */
    wrong = good;
    wrong.size = offsetof(lwm2m_gateway_message, qos);
    wrong.qos = 77;
    OK(lwm2m_gateway_deliver(gateway, &wrong));

    /* No command: ignored. An empty payload is a bad command, answered. */
    wrong = message_of("some/other/topic", "hello");
    OK(lwm2m_gateway_deliver(gateway, &wrong));
    wrong = good;
    wrong.payload = NULL;
    wrong.payload_length = 0;
    OK(lwm2m_gateway_deliver(gateway, &wrong));
    wrong = good;
    wrong.retain = 1;
    wrong.has_message_expiry = 1;
    wrong.message_expiry = UINT32_MAX;
    wrong.qos = 2;
    OK(lwm2m_gateway_deliver(gateway, &wrong));
    deliver_read(gateway, "x", 42);
    wait_for(&notes, 'p', "\"reqID\":42");
    CHECK(counter(gateway, "commands") == 5);
    CHECK(lwm2m_gateway_is_command(gateway, "lwm2m/x/dn/dm", 13) == 1);
    CHECK(lwm2m_gateway_is_command(gateway, "lwm2m/x/up/resp", 15) == 0);
    CHECK(lwm2m_gateway_is_command(gateway, NULL, 3) == 0);
    CHECK(lwm2m_gateway_is_command(gateway, "\xff", 1) == 0);
    stop_and_free(gateway, &notes);
}

/* B14: the answer comes a second time, where it was asked for. */
void test_response_topic(void)
{
    struct notes notes;
    lwm2m_gateway *gateway = create(&notes, LWM2M_GATEWAY_MODE_THREADED);
    lwm2m_gateway_message command = message_of(
        "lwm2m/x/dn/dm", "{\"reqID\":7,\"msgType\":\"read\",\"data\":{\"path\":\"/3/0/0\"}}");
    struct seen *seen;
    OK(lwm2m_gateway_start(gateway));
    command.response_topic = "answers/7 and more";
    command.response_topic_length = 9;
    command.correlation_data = (const uint8_t *)"\0c7";
    command.correlation_data_length = 3;
    OK(lwm2m_gateway_deliver(gateway, &command));
    while (count_of(&notes, 'p', "\"reqID\":7") < 2)
        sched_yield();
    seen = wait_for(&notes, 'p', "\"reqID\":7");
    CHECK(strcmp(seen->name, "lwm2m/x/up/resp") == 0 && seen->id == 0);
    CHECK(strcmp(seen[1].name, "answers/7") == 0 && seen[1].id == 3);
    CHECK(strcmp(seen->text, seen[1].text) == 0);
    /* A topic of commands, and what is no topic, get nothing. */
    command.response_topic = "lwm2m/x/dn/dm";
    command.response_topic_length = 13;
    OK(lwm2m_gateway_deliver(gateway, &command));
    command.response_topic = "#";
    command.response_topic_length = 1;
    OK(lwm2m_gateway_deliver(gateway, &command));
    while (count_of(&notes, 'p', "\"reqID\":7") < 4)
        sched_yield();
    CHECK(counter(gateway, "replies_refused") == 2);
    command.response_topic = "\xff";
    CHECK_STATUS(lwm2m_gateway_deliver(gateway, &command), A);
    command.response_topic = NULL;
    CHECK_STATUS(lwm2m_gateway_deliver(gateway, &command), A);
    command.response_topic_length = 0;
    command.correlation_data = NULL;
    CHECK_STATUS(lwm2m_gateway_deliver(gateway, &command), A);
    /* An older header has neither. */
    command.size = offsetof(lwm2m_gateway_message, response_topic);
    OK(lwm2m_gateway_deliver(gateway, &command));
    while (count_of(&notes, 'p', "\"reqID\":7") < 5)
        sched_yield();
    stop_and_free(gateway, &notes);
}

void test_answer_misuse(void)
{
    struct notes notes;
    lwm2m_gateway *gateway = create(&notes, LWM2M_GATEWAY_MODE_THREADED);
    uint8_t key[257];
    char *json, mountpoint[1026] = "";
    memset(key, 7, sizeof key);
    OK(lwm2m_gateway_start(gateway));
    CHECK_STATUS(lwm2m_gateway_answer_authorization(gateway, 1, LWM2M_GATEWAY_DECISION_ALLOW, NULL),
                 LWM2M_GATEWAY_STATUS_NOT_FOUND);
    CHECK_STATUS(lwm2m_gateway_answer_authorization(gateway, 1, 3, NULL), A);
    CHECK_STATUS(lwm2m_gateway_answer_authorization(gateway, 1, 1, "\xff"), A);
    CHECK_STATUS(lwm2m_gateway_answer_authorization(gateway, 1, 0, "a/+/"), A);
    memset(mountpoint, 'x', 1025);
    CHECK_STATUS(lwm2m_gateway_answer_authorization(gateway, 1, 0, mountpoint), A);
    CHECK_STATUS(lwm2m_gateway_answer_psk(gateway, 1, NULL, 0), LWM2M_GATEWAY_STATUS_NOT_FOUND);
    CHECK_STATUS(lwm2m_gateway_answer_psk(gateway, 1, key, 256), LWM2M_GATEWAY_STATUS_NOT_FOUND);
    CHECK_STATUS(lwm2m_gateway_answer_psk(gateway, 1, key, 257), A);
    CHECK_STATUS(lwm2m_gateway_answer_psk(gateway, 1, key, 0), A);
    CHECK_STATUS(lwm2m_gateway_device(gateway, NULL, &json), A);
    CHECK_STATUS(lwm2m_gateway_device(gateway, "x", NULL), A);
    CHECK_STATUS(lwm2m_gateway_device(gateway, "\xff", &json), A);
    CHECK_STATUS(lwm2m_gateway_device(gateway, "nobody", &json), LWM2M_GATEWAY_STATUS_NOT_FOUND);
    CHECK_STATUS(lwm2m_gateway_kick(gateway, NULL), A);
    CHECK_STATUS(lwm2m_gateway_kick(gateway, "nobody"), LWM2M_GATEWAY_STATUS_NOT_FOUND);
    CHECK(strstr(lwm2m_gateway_last_error(), "nobody") != NULL);
    CHECK_STATUS(lwm2m_gateway_reload(gateway, "\xff"), A);
    stop_and_free(gateway, &notes);
}

static void *other_thread(void *unused)
{
    (void)unused;
    CHECK(*lwm2m_gateway_last_error() == '\0');
    CHECK_STATUS(lwm2m_gateway_kick(NULL, "x"), A);
    CHECK(strcmp(lwm2m_gateway_last_error(), "gateway is NULL") == 0);
    return NULL;
}

void test_last_error_of_a_thread(void)
{
    pthread_t thread;
    lwm2m_gateway *gateway;
    CHECK_STATUS(lwm2m_gateway_create(NULL, NULL, &gateway), A);
    CHECK(strstr(lwm2m_gateway_last_error(), "options") != NULL);
    CHECK(pthread_create(&thread, NULL, other_thread, NULL) == 0);
    pthread_join(thread, NULL);
    CHECK(strstr(lwm2m_gateway_last_error(), "options") != NULL);
    OK(lwm2m_gateway_free(NULL));
    CHECK(strstr(lwm2m_gateway_last_error(), "options") != NULL);
}
