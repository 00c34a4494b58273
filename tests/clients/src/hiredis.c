/* One blocking conversation with Redis by hiredis, as a C program has it:
 * nothing in here knows of coroutines. */
#include <hiredis.h>
#include <string.h>
#include <sys/time.h>

enum { FAILED = -1, NIL = 0, ANSWERED = 1 };

static int finish(redisContext *c, redisReply *reply, int result, char *out,
                  size_t room) {
    if (result == FAILED)
        strncpy(out, c && c->err ? c->errstr : "unexpected reply", room - 1);
    if (reply)
        freeReplyObject(reply);
    if (c)
        redisFree(c);
    return result;
}

/* Connects, pushes `value` to the list `own` and pops it again, then waits for
 * a value of the list `key`, `wait` seconds at most (0: for ever), `give_up`
 * milliseconds for the answer (0: for ever). What came is in `out`, or why
 * nothing did. */
int crore_clients_blpop(const char *host, int port, const char *own,
                        const char *value, const char *key, const char *wait,
                        int give_up, char *out, size_t room) {
    struct timeval limit = {60, 0};
    memset(out, 0, room);
    redisContext *c = redisConnectWithTimeout(host, port, limit);
    if (!c || c->err)
        return finish(c, NULL, FAILED, out, room);

    /* A pipeline of two. */
    redisReply *reply = NULL;
    redisAppendCommand(c, "RPUSH %s %s", own, value);
    redisAppendCommand(c, "LPOP %s", own);
    if (redisGetReply(c, (void **)&reply) != REDIS_OK)
        return finish(c, reply, FAILED, out, room);
    freeReplyObject(reply);
    reply = NULL;
    if (redisGetReply(c, (void **)&reply) != REDIS_OK ||
        reply->type != REDIS_REPLY_STRING || strcmp(reply->str, value) != 0)
        return finish(c, reply, FAILED, out, room);
    freeReplyObject(reply);

    if (give_up) {
        struct timeval patience = {give_up / 1000, give_up % 1000 * 1000};
        if (redisSetTimeout(c, patience) != REDIS_OK)
            return finish(c, NULL, FAILED, out, room);
    }
    reply = redisCommand(c, "BLPOP %s %s", key, wait);
    if (reply && reply->type == REDIS_REPLY_NIL)
        return finish(c, reply, NIL, out, room);
    if (!reply || reply->type != REDIS_REPLY_ARRAY || reply->elements != 2)
        return finish(c, reply, FAILED, out, room);
    strncpy(out, reply->element[1]->str, room - 1);
    return finish(c, reply, ANSWERED, out, room);
}
