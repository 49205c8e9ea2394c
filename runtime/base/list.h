/* SPDX-License-Identifier: MIT */
/* Intrusive doubly linked list; the head is a node of its own. Not for concurrent use. */
#ifndef NUMAPERF_BASE_LIST_H
#define NUMAPERF_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct numaperf__list {
    struct numaperf__list *next;
    struct numaperf__list *prev;
};

/* The struct that holds the list node `ptr` as its `member`. */
#define NUMAPERF_CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline void numaperf__list_init(struct numaperf__list *head)
{
    head->next = head;
    head->prev = head;
}

static inline bool numaperf__list_empty(const struct numaperf__list *head)
{
    return head->next == head;
}

static inline void numaperf__list_push_back(struct numaperf__list *head,
                                            struct numaperf__list *node)
{
    node->next = head;
    node->prev = head->prev;
    head->prev->next = node;
    head->prev = node;
}

static inline void numaperf__list_remove(struct numaperf__list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->next = node;
    node->prev = node;
}

#endif
