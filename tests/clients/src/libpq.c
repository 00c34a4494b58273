/* One blocking query of PostgreSQL by libpq, as a C program has it: nothing in
 * here knows of coroutines. */
#include <libpq-fe.h>
#include <string.h>

/* Connects by `conninfo`, runs `query` with the text parameter `parameter`
 * (NULL: with none), and copies the first field of the first row, if any, to
 * `out`; on failure, a result other than 0, what libpq says. */
int crore_clients_query(const char *conninfo, const char *query,
                        const char *parameter, char *out, size_t room) {
    ExecStatusType status = PGRES_FATAL_ERROR;
    memset(out, 0, room);
    PGconn *c = PQconnectdb(conninfo);
    PGresult *result = NULL;
    if (PQstatus(c) == CONNECTION_OK) {
        result = PQexecParams(c, query, parameter != NULL, NULL, &parameter,
                              NULL, NULL, 0);
        status = PQresultStatus(result);
    }
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        strncpy(out, PQerrorMessage(c), room - 1);
    else if (PQntuples(result) > 0 && PQnfields(result) > 0)
        strncpy(out, PQgetvalue(result, 0, 0), room - 1);
    PQclear(result);
    PQfinish(c);
    return status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK;
}
