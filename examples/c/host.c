/*
 * The smallest useful host: a program that runs the gateway without a broker.
 *
 *   cc -std=c99 -o host host.c $(pkg-config --cflags --libs lwm2m_gateway)
 *   ./host [CONFIG]
 *
 * It prints each message that the gateway publishes as a line "TOPIC JSON", and delivers each such
 * line from standard input, for example
 *
 *   lwm2m/dev-1/dn/dm {"reqID":1,"msgType":"read","data":{"path":"/3/0/0"}}
 *
 * A broker does the same: it publishes to its clients in publish(), remembers the filters of
 * subscribe(), and calls lwm2m_gateway_deliver() for each message that matches one of them.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lwm2m_gateway.h"

static volatile sig_atomic_t ended;

static void on_signal(int number)
{
    (void)number;
    ended = 1;
}

/* The callbacks. In polled mode all of them run inside lwm2m_gateway_poll(). */

static int publish(void *user_data, const lwm2m_gateway_publication *publication)
{
    (void)user_data;
    printf("%s %.*s\n", publication->topic, (int)publication->payload_length,
           (const char *)publication->payload);
    return fflush(stdout) == 0 ? 0 : 1;
}

static void subscribe(void *user_data, const char *filter, uint32_t qos)
{
    (void)user_data;
    fprintf(stderr, "commands come by %s, QoS %u\n", filter, (unsigned)qos);
}

static void write_log(void *user_data, lwm2m_gateway_log_level level, const char *target,
                      const char *text)
{
    (void)user_data;
    fprintf(stderr, "<%d> %s: %s\n", (int)level, target, text);
}

/* One line of standard input: a topic and a command. */
static void deliver(lwm2m_gateway *gateway, char *line)
{
    lwm2m_gateway_message message;
    char *payload = strchr(line, ' ');
    if (payload == NULL)
        return;
    *payload++ = '\0';
    memset(&message, 0, sizeof message);
    message.size = sizeof message;
    message.topic = line;
    message.topic_length = strlen(line);
    message.payload = (const uint8_t *)payload;
    message.payload_length = strcspn(payload, "\r\n");
    if (lwm2m_gateway_deliver(gateway, &message) != LWM2M_GATEWAY_STATUS_OK)
        fprintf(stderr, "not delivered: %s\n", lwm2m_gateway_last_error());
}

static lwm2m_gateway *start(const char *config)
{
    lwm2m_gateway_options options;
    lwm2m_gateway *gateway;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.mode = LWM2M_GATEWAY_MODE_POLLED;
    options.publish = publish;
    options.subscribe = subscribe;
    options.log = write_log;
    if (lwm2m_gateway_create(&options, config, &gateway) == LWM2M_GATEWAY_STATUS_OK &&
        lwm2m_gateway_start(gateway) == LWM2M_GATEWAY_STATUS_OK)
        return gateway;
    fprintf(stderr, "%s\n", lwm2m_gateway_last_error());
    lwm2m_gateway_free(gateway);
    return NULL;
}

/* A loop that waits for two things: the gateway and standard input. */
static void run(lwm2m_gateway *gateway)
{
    struct pollfd fds[2];
    char line[65536];
    fds[0].fd = lwm2m_gateway_fd(gateway);
    fds[0].events = POLLIN;
    fds[1].fd = STDIN_FILENO;
    fds[1].events = POLLIN;
    while (!ended) {
        if (poll(fds, 2, -1) < 0) {
            if (errno == EINTR)
                continue;
            return;
        }
        if (fds[0].revents != 0)
            lwm2m_gateway_poll(gateway, 0, NULL);
        if (fds[1].revents != 0) {
            if (fgets(line, sizeof line, stdin) == NULL)
                fds[1].fd = -1; /* end of input: poll(2) ignores it */
            else
                deliver(gateway, line);
        }
    }
}

int main(int argc, char **argv)
{
    static char config[65536];
    struct sigaction action;
    lwm2m_gateway *gateway;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (argc > 1) {
        FILE *file = fopen(argv[1], "r");
        if (file == NULL || (fread(config, 1, sizeof config - 1, file) == 0 && ferror(file))) {
            perror(argv[1]);
            return 1;
        }
        fclose(file);
    }
    setvbuf(stdin, NULL, _IONBF, 0); /* poll(2) does not see what stdio has read ahead */
    gateway = start(config);
    if (gateway == NULL)
        return 1;
    run(gateway);
    lwm2m_gateway_stop(gateway, 5000);    /* the last answers ... */
    lwm2m_gateway_poll(gateway, 0, NULL); /* ... are published here */
    lwm2m_gateway_free(gateway);
    return 0;
}
