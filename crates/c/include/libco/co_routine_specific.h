// CO_ROUTINE_SPECIFIC(type, name): name->field is the calling coroutine's own, zero at
// first. (As in libco, what it points to is never freed.)
#ifndef CRORE_CO_ROUTINE_SPECIFIC_H
#define CRORE_CO_ROUTINE_SPECIFIC_H

#include <pthread.h>
#include <stdlib.h>

#include "co_routine.h"

namespace crore_libco {

// A key of pthread's, made when it is first wanted.
template <class Tag> pthread_key_t key() {
    struct made {
        pthread_key_t key;
        made() { pthread_key_create(&key, NULL); }
    };
    static made one;
    return one.key;
}

template <class Type, class Tag> struct specific {
    Type *operator->() const {
        void *value = co_getspecific(key<Tag>());
        if (!value && (value = calloc(1, sizeof(Type))) && co_setspecific(key<Tag>(), value)) {
            free(value);
            value = NULL;
        }
        return static_cast<Type *>(value);
    }
};

}

#define CO_ROUTINE_SPECIFIC(type, name) \
    namespace { struct crore_tag_##type; } \
    static crore_libco::specific<type, crore_tag_##type> name;

#endif
