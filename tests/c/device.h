/* A LwM2M device over plain UDP (RFC 7252), as much of one as the tests need. */
#ifndef DEVICE_H
#define DEVICE_H

#include <stddef.h>
#include <stdint.h>

struct device {
    int fd;
    uint16_t message_id;
    char location[64]; /* path of the registration, as in rd/0123 */
};

/* Connects to 127.0.0.1. */
void device_open(struct device *device, uint16_t port);
void device_close(struct device *device);
/* How long it waits for an answer; 10 seconds unless told. */
void device_patience(struct device *device, long seconds);

/* Registers objects /3/0; returns the code of the answer, as in 201 for 2.01, 0 when none comes. */
int device_register(struct device *device, const char *endpoint);
/* Sends an Update; returns the code of the answer. */
int device_update(struct device *device);
/* De-registers; returns the code of the answer. */
int device_deregister(struct device *device);
/* Waits for a datagram, which stays to be read. Returns whether one has come. */
int device_is_spoken_to(struct device *device);
/* Waits for a request and answers it with 2.05 and a text. Returns its method, 0 when none comes. */
int device_serve(struct device *device, const char *text);

#endif
