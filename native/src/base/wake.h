/* Waking another process: one byte into a pipe.
 *
 * Each direction has a pipe of its own, and a process holds only its own end of each. An end has its own flags, so the
 * process at the other end can neither make a write block nor take the byte before the sleeper has seen it. The sleeper
 * watches its end for edges (EPOLLET); a write raises one even while earlier bytes are unread. Bytes are therefore read
 * only now and then, so that the pipe never fills: an honest waker writes at most one byte for each sleep of the other
 * side. A mad one that fills its pipe is not heard any more, which concerns nobody else; the pipe is emptied when the
 * next worker attaches.
 *
 * An eventfd would not do: both sides share its counter and its flags. */
#ifndef UN_WAKE_H
#define UN_WAKE_H

#include <stdbool.h>
#include <stdint.h>

#define UN_WAKES_PER_DRAIN 1024u /* a pipe of one page has room for four times as many */

/* Write one byte. false: the pipe is full, or nobody is left who reads. Never blocks on an end that un_wake_prepare has
 * seen. */
bool un_wake_send(int fd);

/* An edge came, or may have come: empty the pipe every UN_WAKES_PER_DRAIN times. */
void un_wake_drain(int fd);
static inline void un_wake_heard(int fd, uint32_t *heard)
{
    if (++*heard % UN_WAKES_PER_DRAIN == 0)
        un_wake_drain(fd);
}

/* An end that an earlier process had: it does not block from now on, whatever flags that one left. 0 or -errno. */
int un_wake_prepare(int fd);

#endif
