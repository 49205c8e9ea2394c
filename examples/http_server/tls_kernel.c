/* SPDX-License-Identifier: MIT */
/*
 * Keys for the kernel. OpenSSL tells the traffic secret by its key log; key and IV come from it as
 * RFC 8446, 7.3 says: HKDF-Expand-Label of one block, since both are shorter than a hash. Secrets
 * are wiped where they were.
 */
#include "tls_kernel.h"

#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>
#include <sys/socket.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif
#ifndef TCP_ULP
#define TCP_ULP 31
#endif

#define IV_BYTES 12u
#define SALT_BYTES 4u
#define ALERT_RECORD 21

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool tls_kernel_read_secret(const char *line, struct tls_sending *out)
{
    static const char label[] = "SERVER_TRAFFIC_SECRET_0 ";
    if (strncmp(line, label, sizeof(label) - 1) != 0)
        return false;
    const char *hex = strrchr(line, ' ') + 1;
    size_t length = strlen(hex) / 2;
    if (length != 32 && length != TLS_SECRET_MAX)
        return false;
    for (size_t i = 0; i < length; i++) {
        int high = hex_digit(hex[2 * i]);
        int low = hex_digit(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out->secret[i] = (uint8_t)(high << 4 | low);
    }
    out->secret_length = length;
    out->records = 0;
    return true;
}

static bool expand(const struct tls_sending *sending, const char *label, uint8_t *out,
                   size_t length)
{
    uint8_t info[32] = {0,  (uint8_t)length, (uint8_t)(6 + strlen(label)), 't', 'l', 's', '1', '3',
                        ' '};
    size_t label_length = strlen(label);
    uint8_t block[EVP_MAX_MD_SIZE];
    unsigned block_length = sizeof(block);
    memcpy(info + 9, label, label_length);
    info[9 + label_length] = 0;     /* no context */
    info[9 + label_length + 1] = 1; /* the first block */
    const EVP_MD *hash = sending->is_256 ? EVP_sha384() : EVP_sha256();
    bool good = HMAC(hash, sending->secret, (int)sending->secret_length, info, label_length + 11,
                     block, &block_length) != NULL;
    memcpy(out, block, length);
    OPENSSL_cleanse(block, sizeof(block));
    return good;
}

static void sequence_write(uint64_t records, uint8_t out[8])
{
    for (unsigned i = 0; i < 8; i++)
        out[i] = (uint8_t)(records >> (56 - 8 * i));
}

static int take_over_128(int fd, const struct tls_sending *sending, const uint8_t *iv)
{
    struct tls12_crypto_info_aes_gcm_128 info;
    memset(&info, 0, sizeof(info));
    info.info.version = TLS_1_3_VERSION;
    info.info.cipher_type = TLS_CIPHER_AES_GCM_128;
    memcpy(info.salt, iv, SALT_BYTES);
    memcpy(info.iv, iv + SALT_BYTES, IV_BYTES - SALT_BYTES);
    sequence_write(sending->records, info.rec_seq);
    int rc = expand(sending, "key", info.key, sizeof(info.key)) ? 0 : -EIO;
    if (rc == 0 && setsockopt(fd, SOL_TLS, TLS_TX, &info, sizeof(info)) != 0)
        rc = -errno;
    OPENSSL_cleanse(&info, sizeof(info));
    return rc;
}

static int take_over_256(int fd, const struct tls_sending *sending, const uint8_t *iv)
{
    struct tls12_crypto_info_aes_gcm_256 info;
    memset(&info, 0, sizeof(info));
    info.info.version = TLS_1_3_VERSION;
    info.info.cipher_type = TLS_CIPHER_AES_GCM_256;
    memcpy(info.salt, iv, SALT_BYTES);
    memcpy(info.iv, iv + SALT_BYTES, IV_BYTES - SALT_BYTES);
    sequence_write(sending->records, info.rec_seq);
    int rc = expand(sending, "key", info.key, sizeof(info.key)) ? 0 : -EIO;
    if (rc == 0 && setsockopt(fd, SOL_TLS, TLS_TX, &info, sizeof(info)) != 0)
        rc = -errno;
    OPENSSL_cleanse(&info, sizeof(info));
    return rc;
}

int tls_kernel_take_over(int fd, const struct tls_sending *sending)
{
    /* A socket that has the protocol and no keys sends as before: half of it is no harm. */
    if (setsockopt(fd, SOL_TCP, TCP_ULP, "tls", sizeof("tls")) != 0)
        return -errno;
    uint8_t iv[IV_BYTES];
    if (!expand(sending, "iv", iv, sizeof(iv)))
        return -EIO;
    return sending->is_256 ? take_over_256(fd, sending, iv) : take_over_128(fd, sending, iv);
}

void tls_kernel_close_notify(int fd)
{
    static const uint8_t alert[2] = {1, 0}; /* a warning: close_notify */
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(1)];
    } control;
    memset(&control, 0, sizeof(control));
    struct iovec part = {(void *)(uintptr_t)alert, sizeof(alert)};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof(control.space)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_TLS;
    header->cmsg_type = TLS_SET_RECORD_TYPE;
    header->cmsg_len = CMSG_LEN(1);
    *CMSG_DATA(header) = ALERT_RECORD;
    /* A socket that is full has more to lose than this. */
    (void)sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}
