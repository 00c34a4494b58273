-- Transactions that move money between accounts, for sysbench: the sum stays what it was.

sysbench.cmdline.options = { accounts = { "Number of accounts", 200 } }

function prepare()
   local connection = sysbench.sql.driver():connect()
   connection:query("create table account(id int primary key, money int not null) engine=innodb")
   for id = 1, sysbench.opt.accounts do
      connection:query(("insert into account values (%d, 1000)"):format(id))
   end
end

function thread_init()
   connection = sysbench.sql.driver():connect()
end

function event()
   local from = sysbench.rand.uniform(1, sysbench.opt.accounts)
   local to = sysbench.rand.uniform(1, sysbench.opt.accounts)
   local change = "update account set money = money %s 1 where id = %d"
   connection:query("begin")
   connection:query(change:format("-", from))
   connection:query(change:format("+", to))
   connection:query("commit")
end

function thread_done()
   connection:disconnect()
end

-- A deadlock is the server's right: the transaction was undone, and is tried again.
function sysbench.hooks.sql_error_ignorable(error)
   return error.sql_errno == 1213 or error.sql_errno == 1205
end
