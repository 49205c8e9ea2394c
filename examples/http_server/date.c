/* SPDX-License-Identifier: MIT */
/* The program never calls setlocale(): names of days and months are those of the C locale. */
#include "date.h"

#include <stdio.h>
#include <string.h>

void date_format(time_t when, char out[DATE_BYTES])
{
    struct tm parts;
    memset(&parts, 0, sizeof(parts));
    (void)gmtime_r(&when, &parts); /* a year beyond int: the date is wrong, and nothing else */
    if (strftime(out, DATE_BYTES, "%a, %d %b %Y %H:%M:%S GMT", &parts) == 0)
        (void)snprintf(out, DATE_BYTES, "Thu, 01 Jan 1970 00:00:00 GMT");
}

bool date_parse(const char *text, size_t length, time_t *out)
{
    static const char *const forms[] = {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT",
                                        "%a %b %e %H:%M:%S %Y"};
    char copy[48];
    if (length == 0 || length >= sizeof(copy))
        return false;
    memcpy(copy, text, length);
    copy[length] = '\0';
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        struct tm parts;
        memset(&parts, 0, sizeof(parts));
        const char *end = strptime(copy, forms[i], &parts);
        if (end != copy + length)
            continue;
        *out = timegm(&parts);
        return true;
    }
    return false;
}
