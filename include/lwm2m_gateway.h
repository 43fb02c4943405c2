/*
 * lwm2m-gateway: an LwM2M server inside an MQTT broker.
 *
 * A host creates a gateway with its callbacks, starts it, delivers the messages of its broker to it and
 * publishes the messages of the gateway:
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
 * Threads. You may call functions from any thread, several at the same time, unless their comment
 * says otherwise. `mode` of the options decides which threads call the callbacks. The gateway's own
 * threads block all signals. After fork(), the gateways exist only in the parent.
 *
 * Memory. The gateway copies the arguments of a function before it returns. Arguments of a callback
 * belong to the gateway and are valid until the callback returns. Free the texts that functions
 * return through a `char **` with lwm2m_gateway_string_free(). Text is UTF-8.
 *
 * Errors. Functions return an lwm2m_gateway_status, which is 0 on success;
 * lwm2m_gateway_last_error() returns the text of an error. Comments name the errors without
 * LWM2M_GATEWAY_STATUS_. NULL for a gateway is the error ARGUMENT, unless a comment allows it. An
 * invalid pointer cannot be detected.
 */


#ifndef LWM2M_GATEWAY_H
#define LWM2M_GATEWAY_H

/* Made from src/ffi: UPDATE_HEADER=1 cargo test --test header */

#include <stddef.h>
#include <stdint.h>

/**
 * Version of the binary interface that this header describes. It changes only when programs built
 * with an older header can no longer use a newer library; the soname changes with it.
 * `lwm2m_gateway_abi_version()` returns the version of the loaded library.
 */
#define LWM2M_GATEWAY_ABI_VERSION 0

/**
 * Result of a function. A number never changes its meaning. Newer libraries may return numbers
 * that are not listed here; treat them as errors.
 */
typedef enum {
    /**
     * Success.
     */
    LWM2M_GATEWAY_STATUS_OK = 0,
    /**
     * An argument is wrong: NULL, a size that does not fit, text that is not UTF-8, a number out
     * of range. Nothing was done.
     */
    LWM2M_GATEWAY_STATUS_ARGUMENT = 1,
    /**
     * The configuration is wrong; `lwm2m_gateway_last_error()` has a line for each mistake.
     */
    LWM2M_GATEWAY_STATUS_CONFIG = 2,
    /**
     * Not allowed in the current state: not started yet, already started, stopped, or not
     * available in this mode.
     */
    LWM2M_GATEWAY_STATUS_STATE = 3,
    /**
     * Called from a callback of the same gateway in which this function is not allowed, or while
     * another thread is in this function.
     */
    LWM2M_GATEWAY_STATUS_BUSY = 4,
    /**
     * The system reported an error: an address is in use, a file cannot be read, no descriptor is
     * available.
     */
    LWM2M_GATEWAY_STATUS_SYSTEM = 5,
    /**
     * There is no such device or request, or not any more.
     */
    LWM2M_GATEWAY_STATUS_NOT_FOUND = 6,
    /**
     * The deadline passed before everything was done.
     */
    LWM2M_GATEWAY_STATUS_TIMEOUT = 7,
    /**
     * An internal error of the gateway. It was caught before it reached the host, but this gateway
     * can no longer be used: call only `lwm2m_gateway_stop()` and `lwm2m_gateway_free()`. Other
     * gateways of the process are not affected.
     */
    LWM2M_GATEWAY_STATUS_PANIC = 8
} lwm2m_gateway_status;

/**
 * Kind of a published message.
 */
typedef enum {
    /**
     * A report of a registration, or of its end.
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
     * Values that a device sent on its own (LwM2M Send).
     */
    LWM2M_GATEWAY_KIND_SEND = 4,
    /**
     * A measurement series made from an answer, a notification or a Send.
     */
    LWM2M_GATEWAY_KIND_SERIES = 5
} lwm2m_gateway_kind;

/**
 * Level of a log line.
 */
typedef enum {
    /**
     * In the options: use `log.level` of the configuration.
     */
    LWM2M_GATEWAY_LOG_LEVEL_DEFAULT = 0,
    /**
     * Something does not work.
     */
    LWM2M_GATEWAY_LOG_LEVEL_ERROR = 1,
    /**
     * Something that an operator should look at.
     */
    LWM2M_GATEWAY_LOG_LEVEL_WARN = 2,
    /**
     * Information about normal operation.
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
 * Which threads call the callbacks; `mode` of the options.
 */
typedef enum {
    /**
     * The gateway's threads call the callbacks as soon as there is something to report, several at
     * the same time. Messages about one device are in order.
     */
    LWM2M_GATEWAY_MODE_THREADED = 0,
    /**
     * Callbacks are queued until the host calls `lwm2m_gateway_poll()`, and run inside that call
     * on the host's thread. Only `wakeup` is still called from other threads.
     */
    LWM2M_GATEWAY_MODE_POLLED = 1
} lwm2m_gateway_mode;

/**
 * Which subscriptions the gateway requests; `subscriptions` of the options.
 */
typedef enum {
    /**
     * One filter with wildcards for all devices, from start to stop. A command for a device that
     * is not registered is answered 4.04.
     */
    LWM2M_GATEWAY_SUBSCRIPTIONS_SHARED = 0,
    /**
     * A filter for each device, from its registration until the registration ends.
     */
    LWM2M_GATEWAY_SUBSCRIPTIONS_PER_DEVICE = 1
} lwm2m_gateway_subscriptions;

/**
 * The host's decision about a device that wants to register.
 */
typedef enum {
    /**
     * The device may register.
     */
    LWM2M_GATEWAY_DECISION_ALLOW = 0,
    /**
     * The device may not register; it is answered 4.03.
     */
    LWM2M_GATEWAY_DECISION_DENY = 1,
    /**
     * The decision is not possible now. The device is answered 5.03 and will try again.
     */
    LWM2M_GATEWAY_DECISION_UNAVAILABLE = 2
} lwm2m_gateway_decision;

/**
 * A gateway. Created by `lwm2m_gateway_create()` and freed by `lwm2m_gateway_free()`.
 */
typedef struct lwm2m_gateway lwm2m_gateway;

/**
 * A message for the host's broker. The gateway owns the struct and everything it points to; all of
 * it is valid until the callback returns.
 */
typedef struct {
    /**
     * `sizeof(lwm2m_gateway_publication)` of the library, which may be newer than this header:
     * fields are only ever added at the end.
     */
    size_t size;
    /**
     * Kind of the message.
     */
    lwm2m_gateway_kind kind;
    /**
     * MQTT QoS: 0, 1 or 2.
     */
    uint32_t qos;
    /**
     * Endpoint name of the device that the message is about. UTF-8, NUL-terminated.
     */
    const char *endpoint;
    /**
     * Full topic. UTF-8, NUL-terminated.
     */
    const char *topic;
    /**
     * Bytes of `topic` without the NUL.
     */
    size_t topic_length;
    /**
     * JSON. Not NUL-terminated.
     */
    const uint8_t *payload;
    /**
     * Bytes of `payload`.
     */
    size_t payload_length;
    /**
     * In an answer published to the command's `response_topic`: the Correlation Data (MQTT 5) of
     * the command. Otherwise NULL. Not NUL-terminated.
     */
    const uint8_t *correlation_data;
    /**
     * Bytes of `correlation_data`.
     */
    size_t correlation_data_length;
} lwm2m_gateway_publication;

/**
 * Publishes a message through the host's broker.
 *
 * Threaded: called by the gateway's threads, and by any thread inside `lwm2m_gateway_deliver()`
 * and `lwm2m_gateway_start()`. Polled: called inside `lwm2m_gateway_poll()`.
 *
 * Return 0 if the message was accepted. Any other value means that it is lost; the gateway counts
 * it as `publish_dropped`. Must not block: in threaded mode devices wait meanwhile.
 */
typedef int (*lwm2m_gateway_publish_callback)(void *user_data,
                                              const lwm2m_gateway_publication *publication);

/**
 * Subscribes to a topic filter. `filter` is NUL-terminated and valid until the callback returns.
 * Pass each matching message to `lwm2m_gateway_deliver()`, only once even if several filters
 * match.
 *
 * Threaded: called by the thread that is inside `lwm2m_gateway_start()` or
 * `lwm2m_gateway_reload()`; with subscriptions per device also by the gateway's threads. Polled:
 * called inside `lwm2m_gateway_poll()`.
 */
typedef void (*lwm2m_gateway_subscribe_callback)(void *user_data, const char *filter, uint32_t qos);

/**
 * Removes a subscription. Called from the same threads as `subscribe`. `lwm2m_gateway_stop()` does
 * not remove the subscriptions that exist at that time.
 */
typedef void (*lwm2m_gateway_unsubscribe_callback)(void *user_data, const char *filter);

/**
 * Writes a line to the log. `target` is the part of the gateway that logs, `text` the line. Both
 * are UTF-8 and NUL-terminated, contain no line breaks and are valid until the callback returns.
 *
 * Threaded: called by the gateway's threads, and by any thread inside any function of this
 * gateway, including `lwm2m_gateway_create()` and `lwm2m_gateway_free()`. Polled: called inside
 * `lwm2m_gateway_poll()`. In both modes, functions of the same gateway return
 * `LWM2M_GATEWAY_STATUS_BUSY` when called from this callback.
 */
typedef void (*lwm2m_gateway_log_callback)(void *user_data,
                                           lwm2m_gateway_log_level level,
                                           const char *target,
                                           const char *text);

/**
 * Tells the host that callbacks wait for `lwm2m_gateway_poll()`. Called only in polled mode, by
 * the thread that queued the callback: a thread of the gateway, or any thread inside a function of
 * this gateway. One call covers everything up to the next `lwm2m_gateway_poll()`.
 *
 * Use it only to wake the host's loop. Functions of the same gateway return
 * `LWM2M_GATEWAY_STATUS_BUSY` when called from it. A host that can wait for a file descriptor does
 * not need it, see `lwm2m_gateway_fd()`.
 */
typedef void (*lwm2m_gateway_wakeup_callback)(void *user_data);

/**
 * A DTLS handshake that waits for its key. Owned by the gateway, valid until the callback returns.
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
     * Identity as the device sent it: any bytes. Not NUL-terminated.
     */
    const uint8_t *identity;
    /**
     * Bytes of `identity`.
     */
    size_t identity_length;
    /**
     * Address and port of the device as text. NUL-terminated.
     */
    const char *peer;
    /**
     * Listener, such as `dtls:default`. NUL-terminated.
     */
    const char *listener;
} lwm2m_gateway_psk_request;

/**
 * Asks for the key of a PSK identity that the configuration does not have. Answer with
 * `lwm2m_gateway_answer_psk()`, inside the callback or later, from any thread. Until then only
 * this handshake waits.
 *
 * Threaded: called by the gateway's threads. Polled: called inside `lwm2m_gateway_poll()`.
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
     * Endpoint name. UTF-8, NUL-terminated.
     */
    const char *endpoint;
    /**
     * Address and port as text, such as `192.0.2.1:5683` or `[2001:db8::1]:5683`. NUL-terminated.
     */
    const char *peer;
    /**
     * PSK identity of the DTLS connection, or NULL without DTLS. UTF-8 (invalid bytes are
     * replaced), NUL-terminated.
     */
    const char *identity;
    /**
     * All data of the device, as a JSON object with `endpoint`, `peer`, `listener`, `identity`,
     * `mountpoint`, `lifetime`, `version` and `query`. The query contains everything the device
     * sent, including passwords. NUL-terminated.
     */
    const char *json;
} lwm2m_gateway_registration;

/**
 * Asks whether a device may register. Answer with `lwm2m_gateway_answer_authorization()`, inside
 * the callback or later, from any thread. Until then only this device waits.
 *
 * Threaded: called by the gateway's threads. Polled: called inside `lwm2m_gateway_poll()`.
 */
typedef void (*lwm2m_gateway_authorize_callback)(void *user_data,
                                                 const lwm2m_gateway_registration *registration);

/**
 * Reports that a device has registered, has sent an Update or is gone. `json` is an object as in
 * `lwm2m_gateway_devices()` with `"event": "registered"` or `"updated"` (and `"restored": true` if
 * it was restored from the store), or `{"event":"gone","endpoint":"…","reason":"deregistered"}`.
 * Reasons are `deregistered`, `expired`, `kicked`, `displaced` and `listener_closed`. `json` is
 * NUL-terminated and valid until the callback returns.
 *
 * Threaded: called by the gateway's threads. Polled: called inside `lwm2m_gateway_poll()`.
 */
typedef void (*lwm2m_gateway_device_event_callback)(void *user_data, const char *json);

/**
 * Tells the host whether a command that had a `receipt` is safe. `receipt` is that number.
 * `status` is
 *
 * - `OK` if every effect of the message is in the store or answered,
 * - `STATE` if there is no store,
 * - `SYSTEM` if the store cannot be written; the command continues from memory,
 * - `NOT_FOUND` if the message was not accepted: it is not a command, or it was refused, in which
 *   case it is answered.
 *
 * With `store.sync = "off"`, "in the store" means that the operating system has the data, not the
 * disk.
 *
 * Called once for each message that was delivered with `OK`, in any order. Threaded: called by the
 * gateway's threads, or inside `lwm2m_gateway_deliver()`; must not block. Polled: called inside
 * `lwm2m_gateway_poll()`, and never dropped.
 */
typedef void (*lwm2m_gateway_durable_callback)(void *user_data,
                                               uint64_t receipt,
                                               lwm2m_gateway_status status);

/**
 * Options of a new gateway. Begin with
 * `memset(&options, 0, sizeof options); options.size = sizeof options;`: zeros are the defaults.
 * Only `publish` must be set.
 *
 * `size` allows fields to be added at the end. A library treats the missing fields of an older,
 * shorter struct as zero. It refuses a newer, longer struct only if a field that it does not know
 * is not zero.
 *
 * In callbacks of a gateway, except `log` and `wakeup`, you may call all of its functions whose
 * comments do not forbid it. You may always call functions of other gateways. Callbacks must
 * return normally: do not leave them by a C++ exception, `longjmp()`, `pthread_exit()` or
 * cancellation.
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
     * Passed to each callback unchanged. Must be valid until `lwm2m_gateway_free()` has returned.
     */
    void *user_data;
    /**
     * Required.
     */
    lwm2m_gateway_publish_callback publish;
    /**
     * NULL: the host delivers all messages, or decides by itself which.
     */
    lwm2m_gateway_subscribe_callback subscribe;
    /**
     * NULL in the same cases as `subscribe`.
     */
    lwm2m_gateway_unsubscribe_callback unsubscribe;
    /**
     * NULL: no log.
     */
    lwm2m_gateway_log_callback log;
    /**
     * An `lwm2m_gateway_log_level`: the lowest level for which `log` is called. Unless it is
     * `DEFAULT`, `log.level` of the configuration has no effect.
     */
    uint32_t log_level;
    /**
     * Polled mode: how many callbacks may wait for `lwm2m_gateway_poll()`. When the queue is full,
     * new ones are dropped, counted as `host_queue_overflow` and logged; only changes of
     * subscriptions are never dropped. 0: 65,536.
     */
    uint32_t queue_limit;
    /**
     * Polled mode: how many bytes may wait, with the same effect as `queue_limit`. 0: 64 MiB.
     */
    uint64_t queue_bytes;
    /**
     * NULL: the host does not need to be woken.
     */
    lwm2m_gateway_wakeup_callback wakeup;
    /**
     * NULL: keys come only from the configuration.
     */
    lwm2m_gateway_psk_lookup_callback psk_lookup;
    /**
     * NULL: every device that can prove its identity may register.
     */
    lwm2m_gateway_authorize_callback authorize;
    /**
     * NULL: the host does not need device events.
     */
    lwm2m_gateway_device_event_callback device_event;
    /**
     * Directory of the store, which keeps registrations, observations and commands across
     * restarts; `store.path` of the configuration then has no effect. UTF-8, NUL-terminated; read
     * when the gateway is created. NULL or empty: as configured, by default no store.
     */
    const char *store_path;
    /**
     * NULL: the host does not wait for the store.
     */
    lwm2m_gateway_durable_callback durable;
} lwm2m_gateway_options;

/**
 * A message from the host's broker, for `lwm2m_gateway_deliver()`. The host owns the struct and
 * everything it points to; the gateway copies what it keeps.
 *
 * Begin with `memset(&message, 0, sizeof message); message.size = sizeof message;`.
 */
typedef struct {
    /**
     * `sizeof(lwm2m_gateway_message)`.
     */
    size_t size;
    /**
     * Full topic, as published. UTF-8; need not be NUL-terminated.
     */
    const char *topic;
    /**
     * Bytes of `topic`.
     */
    size_t topic_length;
    /**
     * Payload. May be NULL if it is empty.
     */
    const uint8_t *payload;
    /**
     * Bytes of `payload`.
     */
    size_t payload_length;
    /**
     * MQTT QoS of the message: 0, 1 or 2. Does not change how a command is handled.
     */
    uint32_t qos;
    /**
     * 1 if the message was retained (RETAIN), otherwise 0. A retained command is carried out like
     * any other, so applications should not publish commands that way.
     */
    uint32_t retain;
    /**
     * 1 if `message_expiry` is set, otherwise 0.
     */
    uint32_t has_message_expiry;
    /**
     * What is left of the Message Expiry Interval (MQTT 5), in seconds. A command that has not
     * been sent to its device by then is dropped and answered with an error.
     */
    uint32_t message_expiry;
    /**
     * Response Topic (MQTT 5): answers are also published there, if `response_topics` of the
     * configuration allows it. NULL: none. UTF-8; need not be NUL-terminated. The gateway
     * publishes there with the host's permissions. If the host's broker knows that the sender may
     * not publish there, leave it out.
     */
    const char *response_topic;
    /**
     * Bytes of `response_topic`.
     */
    size_t response_topic_length;
    /**
     * Correlation Data (MQTT 5). NULL: none.
     */
    const uint8_t *correlation_data;
    /**
     * Bytes of `correlation_data`.
     */
    size_t correlation_data_length;
    /**
     * Any number except 0: `durable` of the options is called with it when the command is safe, or
     * when it cannot be made safe. 0: `durable` is not called.
     */
    uint64_t receipt;
} lwm2m_gateway_message;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * `LWM2M_GATEWAY_ABI_VERSION` of the loaded library. Any thread, any time.
 */
uint32_t lwm2m_gateway_abi_version(void);

/**
 * Version of the library as text, such as `0.1.0`. The library owns it; it stays valid. Any
 * thread, any time.
 */
const char *lwm2m_gateway_version(void);

/**
 * Description of the last error on this thread; empty if there was none. UTF-8, NUL-terminated.
 * The library owns the text; it is valid until the next function that fails on the same thread, or
 * until the thread ends. Any thread, any time.
 */
const char *lwm2m_gateway_last_error(void);

/**
 * Creates a gateway, which does nothing yet.
 *
 * `options` is copied. `config` is the text of a configuration, in TOML, or in JSON if it begins
 * with `{`; NULL or an empty text means defaults. It is read and checked here, and not kept.
 *
 * On success `*gateway` is the new gateway, to be freed with `lwm2m_gateway_free()`; otherwise it
 * is NULL. Any thread. One process may have several gateways; they share nothing.
 *
 * Errors: `ARGUMENT`, `CONFIG` (all mistakes, one per line), `SYSTEM` (no descriptor available).
 */
lwm2m_gateway_status lwm2m_gateway_create(const lwm2m_gateway_options *options,
                                          const char *config,
                                          lwm2m_gateway **gateway);

/**
 * Binds the listeners, reads the object definitions and starts the threads. If it fails, the
 * gateway is unchanged and may be started again.
 *
 * A stopped gateway cannot be started again: create a new one. Any thread; not inside a callback,
 * and not while you hold a lock that a callback waits for.
 *
 * Errors: `ARGUMENT`, `STATE`, `BUSY`, `SYSTEM` (an address is in use, a directory cannot be
 * read), `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_start(lwm2m_gateway *gateway);

/**
 * Accepts a message from the host's broker. Messages that are not commands are ignored, so a host
 * may deliver everything. A command that cannot be carried out gets an answer that says why. Never
 * blocks.
 *
 * `message` and what it points to is read before this returns, and not kept. Any thread, several
 * at the same time, also inside callbacks. In threaded mode an answer may be published before this
 * returns.
 *
 * Errors: `ARGUMENT` (also for an impossible topic: empty, with `+`, `#` or NUL, or longer than
 * 65,535 bytes), `STATE` (not started, or stopped: the message is not accepted), `PANIC`. After
 * `OK` a command is answered in any case. A host that acknowledges messages to a broker does so
 * after `OK`; a message that was not accepted it leaves for the next gateway.
 */
lwm2m_gateway_status lwm2m_gateway_deliver(lwm2m_gateway *gateway,
                                           const lwm2m_gateway_message *message);

/**
 * Whether messages on a topic are commands, for hosts that do not want to deliver all messages.
 *
 * `topic` has `topic_length` bytes of UTF-8 and need not be NUL-terminated. Any thread, several at
 * the same time, also inside callbacks. Returns 1 or 0; also 0 on an error, for example before the
 * start.
 */
int lwm2m_gateway_is_command(const lwm2m_gateway *gateway, const char *topic, size_t topic_length);

/**
 * Calls waiting callbacks on this thread: at most `max`, or with 0 those that wait at the time of
 * the call. Polled mode only. After `lwm2m_gateway_stop()` it calls the remaining ones.
 *
 * `waiting`, which may be NULL, is set to the number of callbacks that still wait; on an error it
 * is unchanged. If it is not 0, the descriptor stays readable and `wakeup` is called once more.
 *
 * Any thread, one at a time; not inside a callback.
 *
 * Errors: `ARGUMENT`, `STATE` (threaded mode), `BUSY`, `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_poll(lwm2m_gateway *gateway, size_t max, size_t *waiting);

/**
 * A descriptor that is readable while callbacks wait for `lwm2m_gateway_poll()`, for `poll(2)`,
 * `epoll(7)` and event loops. Use it level-triggered, or edge-triggered if you poll after each
 * edge until nothing waits. The gateway owns it: do not read, write or close it. Valid until
 * `lwm2m_gateway_free()`.
 *
 * Any thread, any time. Returns -1 if the gateway is not in polled mode.
 */
int lwm2m_gateway_fd(const lwm2m_gateway *gateway);

/**
 * Applies another configuration, in the same formats as `lwm2m_gateway_create()`, and reads the
 * files that it names: object definitions, keys. With NULL it reads the files of the current
 * configuration again. Registered devices stay; listeners are opened and closed as configured. The
 * number of threads does not change; if the new configuration has another number, the log says so.
 *
 * If it fails, the whole old configuration stays in effect. Any thread; not inside a callback, and
 * not while you hold a lock that a callback waits for.
 *
 * Errors: `ARGUMENT`, `CONFIG` (all mistakes, one per line), `STATE` (stopped), `BUSY`, `SYSTEM`,
 * `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_reload(lwm2m_gateway *gateway, const char *config);

/**
 * All counters as a JSON object, such as `{"commands":12,"registered":3,…}`. Also after the stop.
 *
 * On success `*json` is a text to be freed with `lwm2m_gateway_string_free()`, otherwise NULL. Any
 * thread, also inside callbacks.
 *
 * Errors: `ARGUMENT`, `STATE` (not started yet), `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_statistics(const lwm2m_gateway *gateway, char **json);

/**
 * Name and bound address of each listener as a JSON array, such as
 * `[{"name":"udp:default","address":"0.0.0.0:5683"}]`. If the configuration says port 0, this is
 * how you find the port. Also after the stop.
 *
 * On success `*json` is a text to be freed with `lwm2m_gateway_string_free()`, otherwise NULL. Any
 * thread, also inside callbacks.
 *
 * Errors: `ARGUMENT`, `STATE` (not started yet), `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_listeners(const lwm2m_gateway *gateway, char **json);

/**
 * All registered devices as a JSON array of objects with `endpoint`, `peer`, `listener`,
 * `identity` (DTLS only), `mountpoint`, `lifetime` (seconds), `version`, `queue_mode`,
 * `registered_at` (milliseconds since 1970), `idle_ms`, `alternate_path`, `objects`, `query`,
 * `observations` and `queued` (number of waiting commands). In no particular order. Asks the
 * gateway's threads and waits for at most 5 seconds; the devices of a thread that is blocked for
 * longer by a callback are missing.
 *
 * On success `*json` is a text to be freed with `lwm2m_gateway_string_free()`, otherwise NULL. Any
 * thread; not inside a callback.
 *
 * Errors: `ARGUMENT`, `STATE`, `BUSY`, `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_devices(const lwm2m_gateway *gateway, char **json);

/**
 * One registered device as a JSON object, as in `lwm2m_gateway_devices()`, with the same time
 * limit. `endpoint` is its endpoint name.
 *
 * On success `*json` is a text to be freed with `lwm2m_gateway_string_free()`, otherwise NULL. Any
 * thread; not inside a callback.
 *
 * Errors: `ARGUMENT`, `STATE`, `BUSY`, `NOT_FOUND`, `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_device(const lwm2m_gateway *gateway,
                                          const char *endpoint,
                                          char **json);

/**
 * Ends the registration of a device without telling it: its next Update is answered 4.04, after
 * which it registers again. `endpoint` is its endpoint name. Any thread, also inside callbacks.
 *
 * Errors: `ARGUMENT`, `STATE`, `NOT_FOUND`, `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_kick(lwm2m_gateway *gateway, const char *endpoint);

/**
 * Answers an `authorize` callback. `id` is the one from its registration, `decision` an
 * `lwm2m_gateway_decision`. `detail` may be NULL. With `ALLOW` it is the mountpoint of this device
 * instead of the configured one: at most 1,024 bytes, without placeholders, `+` and `#`, such as
 * `site7/lwm2m/dev1/`. With `DENY` it is a reason; the device gets its first 512 bytes as text.
 * With `UNAVAILABLE` it is ignored.
 *
 * Commands for a device with its own mountpoint are published below that mountpoint. With shared
 * subscriptions, the host must deliver them without being asked, because `subscribe` names only
 * the configured filters.
 *
 * A device that has waited for 15 seconds is answered 5.03; later answers have no effect. Any
 * thread, also inside callbacks.
 *
 * Errors: `ARGUMENT`, `NOT_FOUND` (unknown `id`, already answered, or too old), `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_answer_authorization(lwm2m_gateway *gateway,
                                                        uint64_t id,
                                                        uint32_t decision,
                                                        const char *detail);

/**
 * Answers a `psk_lookup` callback. `id` is the one from its request, `key` has `key_length` bytes,
 * 1 to 256. NULL for `key` means that the identity is unknown. The key is copied, and the copy is
 * wiped when it is no longer needed.
 *
 * An answer that arrives after the device has given up has no effect. Any thread, also inside
 * callbacks.
 *
 * Errors: `ARGUMENT`, `NOT_FOUND` (unknown `id`, already answered, or too old), `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_answer_psk(lwm2m_gateway *gateway,
                                              uint64_t id,
                                              const uint8_t *key,
                                              size_t key_length);

/**
 * Frees a text that a function of this library returned. NULL is allowed and does nothing. Any
 * thread, any time, also after the gateway was freed.
 */
void lwm2m_gateway_string_free(char *text);

/**
 * Answers waiting commands, closes the listeners and ends the threads. Waits for at most
 * `deadline_ms` milliseconds; the rest continues in the background, and you can wait for it by
 * calling this again. 0 does not wait. A start or reload that is running in another thread
 * completes first.
 *
 * From this call on, no command is accepted; commands accepted before are answered by their
 * devices or with 5.03 `gateway_stopping`. After `OK` the gateway has no thread left. Polled mode:
 * the last callbacks, including answers, still wait for `lwm2m_gateway_poll()`. Functions that
 * need a running gateway return `STATE` from now on, also after `TIMEOUT`. Stopping a gateway that
 * is stopped or was never started is not an error.
 *
 * Any thread; not inside a callback, and not while you hold a lock that a callback waits for.
 *
 * Errors: `ARGUMENT`, `BUSY`, `TIMEOUT`, `PANIC`.
 */
lwm2m_gateway_status lwm2m_gateway_stop(lwm2m_gateway *gateway, uint32_t deadline_ms);

/**
 * Frees the gateway, and stops it first if necessary. Waits for callbacks that are running. After
 * it has returned `OK`, no callback is called; callbacks that still wait for
 * `lwm2m_gateway_poll()` are dropped.
 *
 * The pointer is then no longer valid, and no other thread may be using it: this is the last call
 * for a gateway. NULL is allowed and does nothing. Any thread; not while you hold a lock that a
 * callback waits for. Inside a callback of this gateway it only returns `BUSY`.
 *
 * A library loaded with `dlopen()` may be unloaded if `lwm2m_gateway_stop()` has returned `OK` for
 * each of its gateways; otherwise the code of running threads would be gone.
 *
 * Errors: `BUSY`, `PANIC` (freed nevertheless).
 */
lwm2m_gateway_status lwm2m_gateway_free(lwm2m_gateway *gateway);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* LWM2M_GATEWAY_H */
