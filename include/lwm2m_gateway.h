/*
 * lwm2m-gateway: LwM2M devices inside of an MQTT broker.
 *
 * A host makes a gateway with its callbacks, starts it, gives it the messages of its broker and
 * publishes what the gateway has to say:
 *
 *     lwm2m_gateway_options options;
 *     lwm2m_gateway *gateway;
 *     memset(&options, 0, sizeof options);
 *     options.size = sizeof options;
 *     options.publish = publish;
 *     if (lwm2m_gateway_create(&options, "xml_dir = '/etc/lwm2m/objects'", &gateway) != 0 ||
 *         lwm2m_gateway_start(gateway) != 0)
 *         fprintf(stderr, "%s\n", lwm2m_gateway_last_error());
 *     ...
 *     lwm2m_gateway_deliver(gateway, &message);
 *     ...
 *     lwm2m_gateway_stop(gateway, 5000);
 *     lwm2m_gateway_free(gateway);
 *
 * examples/c/host.c is a host to start from.
 *
 * Threads. Functions may be called from any thread, several at once, unless their comment says
 * otherwise. Who calls the callbacks is chosen by `mode` of the options. The gateway's own threads
 * take no signals of the process. A process that forks has its gateways in the parent only.
 *
 * Memory. What a host gives is copied before a function returns. What a callback gets belongs to
 * the gateway and is valid until the callback returns. Texts that functions return by a `char **`
 * are freed by lwm2m_gateway_string_free(). Text is UTF-8.
 *
 * Errors. Functions return an lwm2m_gateway_status, 0 when all went well; the text of an error is
 * at lwm2m_gateway_last_error(). Their comments name the errors without
 * LWM2M_GATEWAY_STATUS_. To give NULL for a gateway is the error ARGUMENT, except where a comment
 * allows it. A pointer that is neither NULL nor valid cannot be recognised.
 */


#ifndef LWM2M_GATEWAY_H
#define LWM2M_GATEWAY_H

/* Made from src/ffi: UPDATE_HEADER=1 cargo test --test header */

#include <stddef.h>
#include <stdint.h>

/**
 * Version of the binary interface that this header describes. It changes only when a program
 * built with an older header could not go on with a newer library; the soname changes with it.
 * `lwm2m_gateway_abi_version()` tells the version of the library that was loaded.
 */
#define LWM2M_GATEWAY_ABI_VERSION 0

/**
 * What a function has to say. Numbers are never given a second meaning; newer libraries may
 * return numbers that are not listed here, which are errors.
 */
typedef enum {
    /**
     * Done.
     */
    LWM2M_GATEWAY_STATUS_OK = 0,
    /**
     * An argument is wrong: NULL, a size that does not fit, text that is no UTF-8, a number
     * outside of its range. Nothing was done.
     */
    LWM2M_GATEWAY_STATUS_ARGUMENT = 1,
    /**
     * The configuration is wrong; `lwm2m_gateway_last_error()` has a line for each mistake.
     */
    LWM2M_GATEWAY_STATUS_CONFIG = 2,
    /**
     * Not at this time: not started yet, started already, stopped, or not in this mode.
     */
    LWM2M_GATEWAY_STATUS_STATE = 3,
    /**
     * Called from inside a callback of the same gateway, where this function is not allowed, or
     * while another thread is in it.
     */
    LWM2M_GATEWAY_STATUS_BUSY = 4,
    /**
     * The system refuses: an address is taken, a file cannot be read, no descriptor is left.
     */
    LWM2M_GATEWAY_STATUS_SYSTEM = 5,
    /**
     * There is no such device or no such request (any more).
     */
    LWM2M_GATEWAY_STATUS_NOT_FOUND = 6,
    /**
     * The deadline has passed before everything was done.
     */
    LWM2M_GATEWAY_STATUS_TIMEOUT = 7,
    /**
     * An error inside of the gateway. It was kept from the host; this gateway is of no use any
     * more, and only `lwm2m_gateway_stop()` and `lwm2m_gateway_free()` still do something with
     * it. Other gateways of the process are not affected.
     */
    LWM2M_GATEWAY_STATUS_PANIC = 8
} lwm2m_gateway_status;

/**
 * What a published message is.
 */
typedef enum {
    /**
     * A report of a registration or of its end.
     */
    LWM2M_GATEWAY_KIND_REGISTER = 0,
    /**
     * A report of an Update.
     */
    LWM2M_GATEWAY_KIND_UPDATE = 1,
    /**
     * The answer to a command.
     */
    LWM2M_GATEWAY_KIND_RESPONSE = 2,
    /**
     * A notification of an observation.
     */
    LWM2M_GATEWAY_KIND_NOTIFY = 3,
    /**
     * What a device sent by itself (LwM2M Send).
     */
    LWM2M_GATEWAY_KIND_SEND = 4,
    /**
     * A measurement series made from one of the others.
     */
    LWM2M_GATEWAY_KIND_SERIES = 5
} lwm2m_gateway_kind;

/**
 * How much a line of the log matters.
 */
typedef enum {
    /**
     * In the options: what `log.level` of the configuration says.
     */
    LWM2M_GATEWAY_LOG_LEVEL_DEFAULT = 0,
    /**
     * Something does not work.
     */
    LWM2M_GATEWAY_LOG_LEVEL_ERROR = 1,
    /**
     * Something that the operator should look at.
     */
    LWM2M_GATEWAY_LOG_LEVEL_WARN = 2,
    /**
     * What an operator wants to know of normal operation.
     */
    LWM2M_GATEWAY_LOG_LEVEL_INFO = 3,
    /**
     * Single messages.
     */
    LWM2M_GATEWAY_LOG_LEVEL_DEBUG = 4,
    /**
     * Everything.
     */
    LWM2M_GATEWAY_LOG_LEVEL_TRACE = 5
} lwm2m_gateway_log_level;

/**
 * Who calls the callbacks; `mode` of the options.
 */
typedef enum {
    /**
     * The gateway's threads call the callbacks as soon as there is something, several of them at
     * once. Messages about one device come in order.
     */
    LWM2M_GATEWAY_MODE_THREADED = 0,
    /**
     * Callbacks wait in a queue until the host calls `lwm2m_gateway_poll()`, and run inside of
     * that call, on the host's thread. Only `wakeup` is still called from other threads.
     */
    LWM2M_GATEWAY_MODE_POLLED = 1
} lwm2m_gateway_mode;

/**
 * Which subscriptions the gateway asks for; `subscriptions` of the options.
 */
typedef enum {
    /**
     * One filter with wildcards for all devices, from start to stop. A command for a device that
     * is not registered is answered with code 4.04.
     */
    LWM2M_GATEWAY_SUBSCRIPTIONS_SHARED = 0,
    /**
     * A filter for each device, from its registration to its end.
     */
    LWM2M_GATEWAY_SUBSCRIPTIONS_PER_DEVICE = 1
} lwm2m_gateway_subscriptions;

/**
 * The host's word on a device that wants to register.
 */
typedef enum {
    /**
     * It may.
     */
    LWM2M_GATEWAY_DECISION_ALLOW = 0,
    /**
     * It may not; it is answered 4.03.
     */
    LWM2M_GATEWAY_DECISION_DENY = 1,
    /**
     * Nobody can tell now; it is answered 5.03 and will try again.
     */
    LWM2M_GATEWAY_DECISION_UNAVAILABLE = 2
} lwm2m_gateway_decision;

/**
 * A gateway. Made by `lwm2m_gateway_create()`, given back by `lwm2m_gateway_free()`.
 */
typedef struct lwm2m_gateway lwm2m_gateway;

/**
 * A message for the host's broker. The gateway owns the struct and everything that it points to;
 * all of it is valid until the callback returns.
 */
typedef struct {
    /**
     * `sizeof(lwm2m_gateway_publication)` of the library, which may be newer than this header:
     * fields are only ever added at the end.
     */
    size_t size;
    /**
     * What it is.
     */
    lwm2m_gateway_kind kind;
    /**
     * MQTT QoS: 0, 1 or 2.
     */
    uint32_t qos;
    /**
     * Endpoint name of the device that it is about. UTF-8, ends with NUL.
     */
    const char *endpoint;
    /**
     * Full topic. UTF-8, ends with NUL.
     */
    const char *topic;
    /**
     * Bytes of `topic` without the NUL.
     */
    size_t topic_length;
    /**
     * JSON. Does not end with NUL.
     */
    const uint8_t *payload;
    /**
     * Bytes of `payload`.
     */
    size_t payload_length;
    /**
     * Correlation Data (MQTT 5) of the command, in an answer for its `response_topic`; otherwise
     * NULL. Does not end with NUL.
     */
    const uint8_t *correlation_data;
    /**
     * Bytes of `correlation_data`.
     */
    size_t correlation_data_length;
} lwm2m_gateway_publication;

/**
 * Publishes a message in the host's broker.
 *
 * Threaded: called by the gateway's threads, and by any thread inside of
 * `lwm2m_gateway_deliver()` and `lwm2m_gateway_start()`. Polled: inside of
 * `lwm2m_gateway_poll()`.
 *
 * Returns 0 when the message was taken. Any other value means that it is lost, which is counted
 * as `publish_dropped`. Must not block: in threaded mode devices wait meanwhile.
 */
typedef int (*lwm2m_gateway_publish_callback)(void *user_data,
                                              const lwm2m_gateway_publication *publication);

/**
 * Asks for the messages of a topic filter. `filter` ends with NUL and is valid until the callback
 * returns. What matches is given to `lwm2m_gateway_deliver()`, also when several filters match,
 * but once.
 *
 * Threaded: called by the thread that is inside of `lwm2m_gateway_start()` or
 * `lwm2m_gateway_reload()`, with subscriptions per device also by the gateway's threads. Polled:
 * inside of `lwm2m_gateway_poll()`.
 */
typedef void (*lwm2m_gateway_subscribe_callback)(void *user_data, const char *filter, uint32_t qos);

/**
 * Takes a subscription back. Called as `subscribe` is. Subscriptions that stand at the end are
 * not taken back by `lwm2m_gateway_stop()`.
 */
typedef void (*lwm2m_gateway_unsubscribe_callback)(void *user_data, const char *filter);

/**
 * A line of the log. `target` is the part of the gateway that speaks, `text` the line; both are
 * UTF-8, end with NUL, have no line breaks of their own and are valid until the callback returns.
 *
 * Threaded: called by the gateway's threads and by any thread inside of any function of this
 * gateway, `lwm2m_gateway_create()` and `lwm2m_gateway_free()` included. Polled: inside of
 * `lwm2m_gateway_poll()`. In both modes functions of the same gateway return
 * `LWM2M_GATEWAY_STATUS_BUSY` inside of it.
 */
typedef void (*lwm2m_gateway_log_callback)(void *user_data,
                                           lwm2m_gateway_log_level level,
                                           const char *target,
                                           const char *text);

/**
 * There is something for `lwm2m_gateway_poll()`. Called in polled mode only, by whichever thread
 * put it there, that is the gateway's threads and any thread inside of a function of this
 * gateway. One call announces everything up to the next `lwm2m_gateway_poll()`.
 *
 * Its purpose is to wake the host's loop; it should do nothing else, and functions of the same
 * gateway return `LWM2M_GATEWAY_STATUS_BUSY` inside of it. Hosts that can wait for a file
 * descriptor need not set it, see `lwm2m_gateway_fd()`.
 */
typedef void (*lwm2m_gateway_wakeup_callback)(void *user_data);

/**
 * A DTLS handshake that waits for its key. Owned by the gateway, valid until the callback
 * returns.
 */
typedef struct {
    /**
     * `sizeof(lwm2m_gateway_psk_request)` of the library, which may be newer than this header:
     * fields are only ever added at the end.
     */
    size_t size;
    /**
     * For `lwm2m_gateway_answer_psk()`.
     */
    uint64_t id;
    /**
     * Identity as the device presented it: any bytes. Does not end with NUL.
     */
    const uint8_t *identity;
    /**
     * Bytes of `identity`.
     */
    size_t identity_length;
    /**
     * Address and port of the device as text. Ends with NUL.
     */
    const char *peer;
    /**
     * Listener, as in `dtls:default`. Ends with NUL.
     */
    const char *listener;
} lwm2m_gateway_psk_request;

/**
 * Asks for the key of a PSK identity that the configured sources do not know. The answer is given
 * by `lwm2m_gateway_answer_psk()`, inside of the callback or later, from any thread; meanwhile
 * the handshake waits, nothing else does.
 *
 * Threaded: called by the gateway's threads. Polled: inside of `lwm2m_gateway_poll()`.
 */
typedef void (*lwm2m_gateway_psk_lookup_callback)(void *user_data,
                                                  const lwm2m_gateway_psk_request *request);

/**
 * A device that wants to register. Owned by the gateway, valid until the callback returns.
 */
typedef struct {
    /**
     * `sizeof(lwm2m_gateway_registration)` of the library, which may be newer than this header:
     * fields are only ever added at the end.
     */
    size_t size;
    /**
     * For `lwm2m_gateway_answer_authorization()`.
     */
    uint64_t id;
    /**
     * Endpoint name. UTF-8, ends with NUL.
     */
    const char *endpoint;
    /**
     * Address and port as text, as in `192.0.2.1:5683` or `[2001:db8::1]:5683`. Ends with NUL.
     */
    const char *peer;
    /**
     * PSK identity of the DTLS connection, or NULL when there is none. UTF-8 (bytes that are none
     * are replaced), ends with NUL.
     */
    const char *identity;
    /**
     * Everything that is known, as a JSON object with `endpoint`, `peer`, `listener`, `identity`,
     * `mountpoint`, `lifetime`, `version` and `query`. The query holds what the device sent,
     * passwords included. Ends with NUL.
     */
    const char *json;
} lwm2m_gateway_registration;

/**
 * Asks whether a device may register. The answer is given by
 * `lwm2m_gateway_answer_authorization()`, inside of the callback or later, from any thread;
 * meanwhile the device waits, others do not.
 *
 * Threaded: called by the gateway's threads. Polled: inside of `lwm2m_gateway_poll()`.
 */
typedef void (*lwm2m_gateway_authorize_callback)(void *user_data,
                                                 const lwm2m_gateway_registration *registration);

/**
 * A device came, changed or went. `json` is an object as in `lwm2m_gateway_devices()` with
 * `"event": "registered"` or `"updated"` (and `"restored": true` when the store brought it back), or
 * `{"event":"gone","endpoint":"…","reason":"deregistered"}`; reasons are `deregistered`,
 * `expired`, `kicked`, `displaced` and `listener_closed`. It ends with NUL and is valid until the
 * callback returns.
 *
 * Threaded: called by the gateway's threads. Polled: inside of `lwm2m_gateway_poll()`.
 */
typedef void (*lwm2m_gateway_device_event_callback)(void *user_data, const char *json);

/**
 * A command whose message had a `receipt` is safe, or is not: `receipt` is that number, `status`
 * `OK` when all that the message has caused is in the store or has its answer, `STATE` when there is
 * no store, `SYSTEM` when the store cannot be written (the command goes on from memory), `NOT_FOUND`
 * when the message was not taken: it was no command, or it was refused, which is answered.
 * With `store.sync = "off"` a store is what the system has taken, not what the disk has.
 *
 * Called once for each message that was delivered with `OK`, in no order. Threaded: by the gateway's
 * threads, or inside of `lwm2m_gateway_deliver()`; it must not block. Polled: inside of
 * `lwm2m_gateway_poll()`, and never dropped.
 */
typedef void (*lwm2m_gateway_durable_callback)(void *user_data,
                                               uint64_t receipt,
                                               lwm2m_gateway_status status);

/**
 * How a gateway is made. Begin with
 * `memset(&options, 0, sizeof options); options.size = sizeof options;`: zeros are the defaults.
 * Only `publish` has to be set.
 *
 * `size` makes it possible to add fields at the end. A library takes a struct of an older, shorter
 * header as if the missing fields were zero, and refuses one of a newer, longer header only if a
 * field that it does not know is not zero.
 *
 * In callbacks of a gateway, `log` and `wakeup` excepted, all of its functions may be called whose
 * comments do not say otherwise. Functions of other gateways may be called in all of them.
 * Callbacks must return normally: neither a C++ exception nor `longjmp()`, `pthread_exit()` or a
 * cancellation may leave them.
 */
typedef struct {
    /**
     * `sizeof(lwm2m_gateway_options)`.
     */
    size_t size;
    /**
     * An `lwm2m_gateway_mode`.
     */
    uint32_t mode;
    /**
     * An `lwm2m_gateway_subscriptions`.
     */
    uint32_t subscriptions;
    /**
     * Given to each callback as it is. Must be valid until `lwm2m_gateway_free()` has returned.
     */
    void *user_data;
    /**
     * Required.
     */
    lwm2m_gateway_publish_callback publish;
    /**
     * NULL when the host delivers all messages, or knows by itself which.
     */
    lwm2m_gateway_subscribe_callback subscribe;
    /**
     * NULL as `subscribe`.
     */
    lwm2m_gateway_unsubscribe_callback unsubscribe;
    /**
     * NULL: no log.
     */
    lwm2m_gateway_log_callback log;
    /**
     * An `lwm2m_gateway_log_level`: the least that `log` is called for. Unless it is `DEFAULT`,
     * `log.level` of the configuration has no effect.
     */
    uint32_t log_level;
    /**
     * Polled mode: callbacks that may wait for `lwm2m_gateway_poll()`. What comes when the queue
     * is full is dropped, counted as `host_queue_overflow` and reported in the log; only
     * subscriptions are never dropped. 0: 65,536.
     */
    uint32_t queue_limit;
    /**
     * Polled mode: bytes that may wait, counted as `queue_limit`. 0: 64 MiB.
     */
    uint64_t queue_bytes;
    /**
     * NULL: the host is not to be woken.
     */
    lwm2m_gateway_wakeup_callback wakeup;
    /**
     * NULL: only the configured sources know keys.
     */
    lwm2m_gateway_psk_lookup_callback psk_lookup;
    /**
     * NULL: every device that can prove its identity may register.
     */
    lwm2m_gateway_authorize_callback authorize;
    /**
     * NULL: the host does not watch devices.
     */
    lwm2m_gateway_device_event_callback device_event;
    /**
     * Directory of the store, in which registrations, observations and commands outlive the process;
     * `store.path` of the configuration has no effect then. UTF-8, ends with NUL; read when the
     * gateway is made. NULL or empty: as the configuration says, which is no store by default.
     */
    const char *store_path;
    /**
     * NULL: the host does not wait for the store.
     */
    lwm2m_gateway_durable_callback durable;
} lwm2m_gateway_options;

/**
 * A message of the host's broker, for `lwm2m_gateway_deliver()`. The host owns the struct and
 * everything that it points to; the gateway copies what it keeps.
 *
 * Begin with `memset(&message, 0, sizeof message); message.size = sizeof message;`.
 */
typedef struct {
    /**
     * `sizeof(lwm2m_gateway_message)`.
     */
    size_t size;
    /**
     * Full topic, as its publisher wrote it. UTF-8; need not end with NUL.
     */
    const char *topic;
    /**
     * Bytes of `topic`.
     */
    size_t topic_length;
    /**
     * Payload. May be NULL when it is empty.
     */
    const uint8_t *payload;
    /**
     * Bytes of `payload`.
     */
    size_t payload_length;
    /**
     * MQTT QoS that it came with: 0, 1 or 2. Does not change how a command is handled.
     */
    uint32_t qos;
    /**
     * 1 when the broker had stored the message (RETAIN), otherwise 0. A stored command is carried
     * out like any other: applications should not publish commands that way.
     */
    uint32_t retain;
    /**
     * 1 when `message_expiry` holds a value, otherwise 0.
     */
    uint32_t has_message_expiry;
    /**
     * What is left of the Message Expiry Interval of MQTT 5 in seconds. A command that has not
     * gone to its device by then is answered and dropped.
     */
    uint32_t message_expiry;
    /**
     * Response Topic of MQTT 5, to which the answers go as well, within `response_topics` of the
     * configuration. NULL: none. UTF-8; need not end with NUL. The gateway publishes there with the
     * rights of the host: a host whose broker knows the rights of the sender leaves it out where
     * the sender may not publish.
     */
    const char *response_topic;
    /**
     * Bytes of `response_topic`.
     */
    size_t response_topic_length;
    /**
     * Correlation Data of MQTT 5. NULL: none.
     */
    const uint8_t *correlation_data;
    /**
     * Bytes of `correlation_data`.
     */
    size_t correlation_data_length;
    /**
     * Any number but 0: `durable` of the options is called with it once the command is safe, or when
     * that cannot be. 0: nobody wants to know.
     */
    uint64_t receipt;
} lwm2m_gateway_message;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * `LWM2M_GATEWAY_ABI_VERSION` of the library that was loaded. Any thread, any time.
 */
uint32_t lwm2m_gateway_abi_version(void);

/**
 * Version of the library as text, as in `0.1.0`. The library owns it, for good. Any thread, any
 * time.
 */
const char *lwm2m_gateway_version(void);

/**
 * What went wrong at the last function on this thread that failed; empty when none has. UTF-8,
 * ends with NUL. The library owns the text; it is valid until the next function that fails on the
 * same thread, or the end of the thread. Any thread, any time.
 */
const char *lwm2m_gateway_last_error(void);

/**
 * Makes a gateway, which does nothing yet.
 *
 * `options` is copied. `config` is the text of a configuration in TOML, or in JSON when it begins
 * with `{`; NULL or an empty text means defaults. It is read and checked here, not kept.
 *
 * On success `*gateway` is the new gateway, for `lwm2m_gateway_free()`; otherwise it is NULL.
 * Any thread; several gateways may live in one process and share nothing.
 *
 * Errors: `ARGUMENT`, `CONFIG` (all mistakes, one a line), `SYSTEM` (no descriptor left).
 */
lwm2m_gateway_status lwm2m_gateway_create(const lwm2m_gateway_options *options,
                                          const char *config,
                                          lwm2m_gateway **gateway);

/**
 * Binds the listeners, reads the object definitions and starts the threads. When it fails the
 * gateway is as before and may be started again.
 *
 * A gateway that was stopped is not started again: make a new one. Any thread; not inside of a
 * callback, and not with a lock held that a callback waits for.
 *
 * Errors: `ARGUMENT`, `STATE`, `BUSY`, `SYSTEM` (an address that is taken, a directory that cannot
 * be read), `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_start(lwm2m_gateway *gateway);

/**
 * Takes a message of the host's broker. What is no command is ignored, so a host may deliver
 * everything; a command that cannot be carried out is answered by a message. Never waits.
 *
 * `message` and what it points to is read before this returns, and not kept. Any thread, several
 * at once, also inside of callbacks. In threaded mode an answer may be published before this
 * returns.
 *
 * Errors: `ARGUMENT` (also a topic that no message can have: empty, with `+`, `#` or NUL, or
 * longer than 65,535 bytes), `STATE` (not started, or stopped: the message is not taken), `PANIC`.
 * After `OK` a command is answered, whatever comes: a host that acknowledges messages to a broker
 * does so then, and leaves one that was not taken to the next gateway.
 */
lwm2m_gateway_status lwm2m_gateway_deliver(lwm2m_gateway *gateway,
                                           const lwm2m_gateway_message *message);

/**
 * Whether messages of a topic are commands, for hosts that would rather not deliver all others.
 *
 * `topic` has `topic_length` bytes of UTF-8 and need not end with NUL. Any thread, several at
 * once, also inside of callbacks. Returns 1 or 0; 0 as well when it fails, as before the start.
 */
int lwm2m_gateway_is_command(const lwm2m_gateway *gateway, const char *topic, size_t topic_length);

/**
 * Makes callbacks that wait, on this thread: `max` at most, or, with 0, those that wait at the
 * time of the call. Polled mode only. After `lwm2m_gateway_stop()` it makes those that are left.
 *
 * `waiting`, which may be NULL, is set to how many still wait; in case of an error it is left as
 * it is. When that is not 0 the descriptor stays readable and `wakeup` is called once more.
 *
 * Any thread, one at a time; not inside of a callback.
 *
 * Errors: `ARGUMENT`, `STATE` (threaded mode), `BUSY`, `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_poll(lwm2m_gateway *gateway, size_t max, size_t *waiting);

/**
 * A descriptor that is readable while callbacks wait for `lwm2m_gateway_poll()`, for `poll(2)`,
 * `epoll(7)` and event loops: level-triggered, or edge-triggered when each edge is answered by
 * polling until nothing waits. The gateway owns it: do not read, write or close it. Valid until
 * `lwm2m_gateway_free()`.
 *
 * Any thread, any time. Returns -1 when the gateway is not in polled mode.
 */
int lwm2m_gateway_fd(const lwm2m_gateway *gateway);

/**
 * Takes another configuration, in the same forms as `lwm2m_gateway_create()`, and reads the files
 * that it names: object definitions, keys. NULL reads the files of the configuration in force
 * again. Registered devices stay; listeners are opened and closed as the configuration says. The
 * number of threads stays as it was at the start; a change of it is reported in the log.
 *
 * When it fails the old configuration stays in force as a whole. Any thread; not inside of a
 * callback, and not with a lock held that a callback waits for.
 *
 * Errors: `ARGUMENT`, `CONFIG` (all mistakes, one a line), `STATE` (stopped), `BUSY`, `SYSTEM`,
 * `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_reload(lwm2m_gateway *gateway, const char *config);

/**
 * All counters as a JSON object, as in `{"commands":12,"registered":3,…}`. Also after the stop.
 *
 * On success `*json` is a text for `lwm2m_gateway_string_free()`, otherwise NULL. Any thread,
 * also inside of callbacks.
 *
 * Errors: `ARGUMENT`, `STATE` (not started yet), `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_statistics(const lwm2m_gateway *gateway, char **json);

/**
 * Name and bound address of each listener as a JSON array, as in
 * `[{"name":"udp:default","address":"0.0.0.0:5683"}]`. Tells which port it was when the
 * configuration said 0. Also after the stop.
 *
 * On success `*json` is a text for `lwm2m_gateway_string_free()`, otherwise NULL. Any thread,
 * also inside of callbacks.
 *
 * Errors: `ARGUMENT`, `STATE` (not started yet), `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_listeners(const lwm2m_gateway *gateway, char **json);

/**
 * All registered devices as a JSON array of objects with `endpoint`, `peer`, `listener`,
 * `identity` (DTLS only), `mountpoint`, `lifetime` (seconds), `version`, `queue_mode`,
 * `registered_at` (milliseconds since 1970), `idle_ms`, `alternate_path`, `objects`, `query`,
 * `observations` and `queued` (commands that wait). In no particular order. Asks the gateway's
 * threads, for 5 seconds at most: devices of a thread that is busy for longer, since a callback
 * blocks, are missing.
 *
 * On success `*json` is a text for `lwm2m_gateway_string_free()`, otherwise NULL. Any thread; not
 * inside of a callback.
 *
 * Errors: `ARGUMENT`, `STATE`, `BUSY`, `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_devices(const lwm2m_gateway *gateway, char **json);

/**
 * One registered device as a JSON object, as in `lwm2m_gateway_devices()`, with the same limit.
 * `endpoint` is its endpoint name.
 *
 * On success `*json` is a text for `lwm2m_gateway_string_free()`, otherwise NULL. Any thread; not
 * inside of a callback.
 *
 * Errors: `ARGUMENT`, `STATE`, `BUSY`, `NOT_FOUND`, `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_device(const lwm2m_gateway *gateway,
                                          const char *endpoint,
                                          char **json);

/**
 * Ends the registration of a device. It is not told: its next Update is answered 4.04, which
 * makes it register again. `endpoint` is its endpoint name. Any thread, also inside of callbacks.
 *
 * Errors: `ARGUMENT`, `STATE`, `NOT_FOUND`, `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_kick(lwm2m_gateway *gateway, const char *endpoint);

/**
 * Answers an `authorize` callback: `id` is that of its registration, `decision` an
 * `lwm2m_gateway_decision`. `detail` may be NULL; otherwise it is, for `ALLOW`, the mountpoint of
 * this device instead of the configured one, without placeholders, as in `site7/lwm2m/dev1/`, of
 * 1,024 bytes at most and without `+` and `#`; for `DENY` a reason, of which the device gets the
 * first 512 bytes as text. `UNAVAILABLE` takes no notice of it.
 *
 * Commands for a device with a mountpoint of its own come by that mountpoint. A host with shared
 * subscriptions has to deliver them unasked: `subscribe` names the filters of the configuration
 * only.
 *
 * A device that has waited for 15 seconds is answered 5.03; an answer that comes later changes
 * nothing. Any thread, also inside of callbacks.
 *
 * Errors: `ARGUMENT`, `NOT_FOUND` (never asked, answered already, or too old), `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_answer_authorization(lwm2m_gateway *gateway,
                                                        uint64_t id,
                                                        uint32_t decision,
                                                        const char *detail);

/**
 * Answers a `psk_lookup` callback: `id` is that of its request, `key` has `key_length` bytes, 1 to
 * 256. NULL for `key` means that the identity is unknown. The key is copied, and the copy
 * wiped when it is not needed any more.
 *
 * An answer that comes after the device has given up changes nothing. Any thread, also inside of
 * callbacks.
 *
 * Errors: `ARGUMENT`, `NOT_FOUND` (never asked, answered already, or too old), `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_answer_psk(lwm2m_gateway *gateway,
                                              uint64_t id,
                                              const uint8_t *key,
                                              size_t key_length);

/**
 * Gives a text back that a function of this library returned for it. NULL is nothing. Any thread,
 * any time, also after the gateway was freed.
 */
void lwm2m_gateway_string_free(char *text);

/**
 * Answers what waits, closes the listeners and ends the threads. Waits `deadline_ms` milliseconds
 * at most; what is not done by then goes on in the background and may be waited for by calling
 * this again. 0 only asks. A start or reload that another thread is inside of comes to its end.
 *
 * From the call on no command is taken; those that were are answered, by their devices or with 5.03
 * `gateway_stopping`. After `OK` no thread of the gateway is left. Polled mode: the last callbacks,
 * answers among them, still wait for `lwm2m_gateway_poll()`. Functions that need a running gateway return `STATE` from now on, also
 * after `TIMEOUT`. To stop what is stopped, or was never started, is no error.
 *
 * Any thread; not inside of a callback, and not with a lock held that a callback waits for.
 *
 * Errors: `ARGUMENT`, `BUSY`, `TIMEOUT`, `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_stop(lwm2m_gateway *gateway,
                                        uint32_t deadline_ms);

/**
 * Gives the gateway back, after having stopped it when that was not done. Waits for callbacks
 * that are running; none is made after this has returned `OK`, and callbacks that still wait for
 * `lwm2m_gateway_poll()` are dropped.
 *
 * The pointer is not valid any more then, and must not be in use by another thread: this is the
 * last function to be called for it. NULL is nothing. Any thread, not with a lock held that a
 * callback waits for; inside of a callback of this gateway it does nothing but return `BUSY`.
 *
 * A library that was loaded by `dlopen()` may be unloaded when `lwm2m_gateway_stop()` had
 * returned `OK` for each of its gateways; threads that have not ended would run without code.
 *
 * Errors: `BUSY`, `PANIC` (freed all the same).
 */
lwm2m_gateway_status lwm2m_gateway_free(lwm2m_gateway *gateway);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* LWM2M_GATEWAY_H */
