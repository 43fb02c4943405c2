/*
 * Tests of every function of lwm2m_gateway.h.
 *
 *   unit [NAME]    all, or those whose name holds NAME
 */
#define _POSIX_C_SOURCE 200809L

#include <string.h>

#include "support.h"

#define TESTS(test)                                                                                \
    test(versions) test(create_misuse) test(create_sizes) test(create_config) test(null_gateway)   \
    test(before_start) test(after_stop) test(start_refused) test(deliver_misuse)                   \
    test(response_topic)                                                                           \
    test(answer_misuse) test(last_error_of_a_thread)                                               \
    test(conversation_threaded) test(conversation_polled) test(json_config) test(reload)           \
    test(authorization_threaded) test(authorization_polled) test(authorization_later)              \
    test(subscriptions_per_device) test(log_levels) test(refused_messages)                         \
    test(polled_on_one_thread) test(polled_in_portions) test(polled_overflow)                      \
    test(polled_after_stop) test(polled_at_once) test(callbacks_may_call)                          \
    test(callbacks_may_not_stop) test(polled_callbacks_may_not_poll) test(log_may_not_call)        \
    test(wakeup_may_not_call) test(two_gateways)                                                   \
    test(many_threads) test(stop_deadline) test(stop_during_start)                                 \
    test(free_waits_for_callbacks)                                                                 \
    test(store_threaded) test(store_polled) test(no_store) test(store_refused)                        \
    test(free_without_stop) test(many_gateways)

#define DECLARE(name) void test_##name(void);
TESTS(DECLARE)

#define ENTRY(name) {#name, test_##name},
static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {TESTS(ENTRY)};

int main(int argc, char **argv)
{
    size_t i, done = 0;
    for (i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (argc > 1 && strstr(tests[i].name, argv[1]) == NULL)
            continue;
        printf("%s\n", tests[i].name);
        fflush(stdout);
        tests[i].run();
        done++;
    }
    printf("%zu tests passed\n", done);
    return done > 0 ? 0 : 1;
}
