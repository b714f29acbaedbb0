# A cluster of two workers with one thread each. WORKERS=0 makes it a single process, THREADS gives
# each more of them, DRAIN=1 turns drain_on_shutdown on.
rackup File.expand_path("config.ru", __dir__)
environment "production"
bind "tcp://127.0.0.1:#{ENV.fetch('PORT', 9292)}"
workers Integer(ENV.fetch("WORKERS", 2))
threads 1, Integer(ENV.fetch("THREADS", 1))
drain_on_shutdown if ENV["DRAIN"] == "1"
