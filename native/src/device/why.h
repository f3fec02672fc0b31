/* A sentence for the user who gave the wrong name or lacks a right: what was asked, what was found, what to do. */
#ifndef UN_WHY_H
#define UN_WHY_H

/* Thread-local text, valid until the next call. */
__attribute__((format(printf, 1, 2))) const char *un_why(const char *format, ...);

#endif
