/* SPDX-License-Identifier: MIT
 *
 * policy_table - what the IANA special-purpose address registries say of an address, and which
 * addresses answer with credentials in a cloud. Static data and pure functions, for policy alone.
 */
#ifndef GATHERD_POLICY_TABLE_H
#define GATHERD_POLICY_TABLE_H

#include <stdbool.h>

#include "cidr.h"

enum address_class {
    ADDRESS_GLOBAL,  /* globally reachable */
    ADDRESS_PRIVATE, /* not so, but of a site's own: what `base = private` adds */
    ADDRESS_SPECIAL
};

struct address_block {
    struct cidr cidr;
    enum address_class class;
    const char *name; /* as the registry has it, words in lower case */
};

/* The most specific block that holds the address; NULL for family 0 only. An IPv6 address is looked
 * up as it is: of an embedded IPv4 address this says nothing. */
const struct address_block *policy_table_find(const struct ip_addr *ip);

/* Whether all addresses of the family that have ip's first byte are global, and none is one of
 * metadata. Of embedded addresses this says nothing. */
bool policy_table_is_open(const struct ip_addr *ip);

/* Whether it is the metadata address of a cloud. */
bool policy_table_is_metadata(const struct ip_addr *ip);

#endif
