/* A store behind the C API. */

#define _POSIX_C_SOURCE 200809L

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device.h"
#include "support.h"

/* A read with a number that `durable` is to be called with. */
static void read_durably(lwm2m_gateway *gateway, const char *topic, int request_id, uint64_t receipt)
{
    char payload[128];
    lwm2m_gateway_message message;
    snprintf(payload, sizeof payload,
             "{\"reqID\":%d,\"msgType\":\"read\",\"data\":{\"path\":\"/3/0/0\"}}", request_id);
    message = message_of(topic, payload);
    message.receipt = receipt;
    OK(lwm2m_gateway_deliver(gateway, &message));
}

static void told(struct notes *notes, const char *receipt, lwm2m_gateway_status status)
{
    struct seen *seen = wait_for(notes, 'd', receipt);
    CHECK(seen->number == (int)status);
    CHECK(count_of(notes, 'd', receipt) == 1);
}

static lwm2m_gateway *with_store(struct notes *notes, uint32_t mode, const char *path, int port)
{
    char config[128];
    lwm2m_gateway_options options;
    lwm2m_gateway *gateway = NULL;
    notes_init(notes);
    options = noting(notes, mode);
    options.store_path = path;
    snprintf(config, sizeof config, "listeners.udp.default.bind = '127.0.0.1:%d'\n", port);
    OK(lwm2m_gateway_create(&options, config, &gateway));
    notes->gateway = gateway;
    OK(lwm2m_gateway_start(gateway));
    return gateway;
}

static int registers(struct device *device, const char *endpoint)
{
    return device_register(device, endpoint);
}

static int is_asked(struct device *device, const char *unused)
{
    (void)unused;
    return device_is_spoken_to(device);
}

static int serves(struct device *device, const char *text)
{
    return device_serve(device, text);
}

static void a_command_outlives_its_gateway(uint32_t mode)
{
    char path[] = "/tmp/lwm2m-c-store-XXXXXX", file[64];
    struct notes notes;
    struct device device;
    lwm2m_gateway *gateway;
    uint16_t port;
    CHECK(mkdtemp(path) != NULL);
    gateway = with_store(&notes, mode, path, 0);
    port = port_of(gateway);
    device_open(&device, port);
    CHECK(polling(&notes, &device, "kept", registers) == 201);
    CHECK(count_of(&notes, 'e', "\"restored\"") == 0);
    /* With this the gateway knows that the device receives at its address. */
    deliver_read(gateway, "kept", 9);
    CHECK(polling(&notes, &device, "Example", serves) == 1);
    wait_for(&notes, 'p', "\"reqID\":9,");
    read_durably(gateway, "lwm2m/kept/dn/dm", 1, 70001);
    told(&notes, "<70001>", LWM2M_GATEWAY_STATUS_OK);
    /* What is answered at once is not written, and as good. */
    read_durably(gateway, "lwm2m/nobody/dn/dm", 2, 70002);
    told(&notes, "<70002>", LWM2M_GATEWAY_STATUS_OK);
    read_durably(gateway, "other/topic", 3, 70003);
    told(&notes, "<70003>", LWM2M_GATEWAY_STATUS_NOT_FOUND);
    /* The request is on its way before the gateway stops. */
    CHECK(polling(&notes, &device, "", is_asked) == 1);
    OK(lwm2m_gateway_stop(gateway, 10000));
    if (lwm2m_gateway_fd(gateway) >= 0)
        OK(lwm2m_gateway_poll(gateway, 0, NULL));
    CHECK(count_of(&notes, 'p', "\"reqID\":1,") == 0);
    OK(lwm2m_gateway_free(gateway));
    notes_free(&notes);

    gateway = with_store(&notes, mode, path, port);
    wait_for(&notes, 'e', "\"restored\":true");
    /* The request of before, and the one that comes again. */
    CHECK(polling(&notes, &device, "Example", serves) == 1);
    CHECK(polling(&notes, &device, "Example", serves) == 1);
    wait_for(&notes, 'p', "\"reqID\":1,");
    CHECK(counter(gateway, "store_failing") == 0);
    stop_and_free(gateway, &notes);
    device_close(&device);
    snprintf(file, sizeof file, "rm -r %s", path);
    CHECK(system(file) == 0);
}

void test_store_threaded(void)
{
    a_command_outlives_its_gateway(LWM2M_GATEWAY_MODE_THREADED);
}

void test_store_polled(void)
{
    a_command_outlives_its_gateway(LWM2M_GATEWAY_MODE_POLLED);
}

void test_no_store(void)
{
    struct notes notes;
    lwm2m_gateway *gateway = begin(&notes, LWM2M_GATEWAY_MODE_THREADED, "");
    read_durably(gateway, "lwm2m/nobody/dn/dm", 1, 70001);
    told(&notes, "<70001>", LWM2M_GATEWAY_STATUS_STATE);
    stop_and_free(gateway, &notes);
}

/* A directory that cannot be one. */
void test_store_refused(void)
{
    struct notes notes;
    lwm2m_gateway_options options;
    lwm2m_gateway *gateway = NULL;
    notes_init(&notes);
    options = noting(&notes, LWM2M_GATEWAY_MODE_THREADED);
    options.store_path = "/dev/null/store";
    OK(lwm2m_gateway_create(&options, "listeners.udp.default.bind = '127.0.0.1:0'", &gateway));
    CHECK_STATUS(lwm2m_gateway_start(gateway), LWM2M_GATEWAY_STATUS_SYSTEM);
    CHECK(strstr(lwm2m_gateway_last_error(), "/dev/null/store") != NULL);
    OK(lwm2m_gateway_free(gateway));
    notes_free(&notes);
}
