/* SPDX-License-Identifier: MIT */
/*
 * Connections under any completions, errors and calls: the input is the script of what the kernel
 * answers and what the user does; support/net_fake.c has the model.
 */
#include "support/net_fake.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool is_open = false;
    if (!is_open) { /* once: scripts leave nothing behind */
        net_fake_open();
        check(atexit(net_fake_close) == 0);
    }
    is_open = true;
    net_fake_run(data, size);
    return 0;
}
