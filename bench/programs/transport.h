/* The bytes of a nonblocking connection: plain, or TLS by OpenSSL when compiled with -DWITH_TLS.

   The program is compiled twice, so that the plain one has no overhead. The handshake needs no call of its own: reading
   or writing continues it, and returns EAGAIN until it is done. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FD = 1 << 17 };

#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>

static SSL_CTX *transport_context;
static SSL *transport_sessions[MAX_FD];

/* The context of the server, with a certificate and its key, or of a client, with neither, which verifies nothing. */
static void transport_prepare(const char *certificate, const char *key)
{
    transport_context = SSL_CTX_new(certificate ? TLS_server_method() : TLS_client_method());
    SSL_CTX_set_mode(transport_context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (certificate && (SSL_CTX_use_certificate_chain_file(transport_context, certificate) != 1 ||
                        SSL_CTX_use_PrivateKey_file(transport_context, key, SSL_FILETYPE_PEM) != 1)) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
}

static void transport_begin(int fd, int is_server)
{
    SSL *session = transport_sessions[fd] = SSL_new(transport_context);
    SSL_set_fd(session, fd);
    if (is_server)
        SSL_set_accept_state(session);
    else
        SSL_set_connect_state(session);
}

/* The result as of recv() and send(): EAGAIN for "not now", and 0 for the end. */
static ssize_t transport_result(int fd, int result)
{
    if (result > 0)
        return result;
    int why = SSL_get_error(transport_sessions[fd], result);
    ERR_clear_error();
    if (why == SSL_ERROR_ZERO_RETURN)
        return 0;
    errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : EPROTO;
    return -1;
}

static inline ssize_t transport_read(int fd, void *bytes, size_t size)
{
    return transport_result(fd, SSL_read(transport_sessions[fd], bytes, size));
}

static inline ssize_t transport_write(int fd, const void *bytes, size_t size)
{
    return transport_result(fd, SSL_write(transport_sessions[fd], bytes, size));
}

static void transport_end(int fd)
{
    SSL_free(transport_sessions[fd]);
    transport_sessions[fd] = NULL;
    close(fd);
}

#else

static void transport_prepare(const char *certificate, const char *key)
{
    (void)key;
    if (certificate) {
        fprintf(stderr, "compiled without TLS\n");
        exit(2);
    }
}

static void transport_begin(int fd, int is_server)
{
    (void)fd, (void)is_server;
}

static inline ssize_t transport_read(int fd, void *bytes, size_t size)
{
    return recv(fd, bytes, size, 0);
}

static inline ssize_t transport_write(int fd, const void *bytes, size_t size)
{
    return send(fd, bytes, size, MSG_NOSIGNAL);
}

static void transport_end(int fd)
{
    close(fd);
}

#endif
