# A master and two workers. Unicorn's listeners have TCP_DEFER_ACCEPT unless told otherwise.
listen "127.0.0.1:#{ENV.fetch('PORT', 9292)}"
worker_processes 2
