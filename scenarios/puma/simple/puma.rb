# One process, no workers.
rackup File.expand_path("config.ru", __dir__)
environment "production"
bind "tcp://127.0.0.1:#{ENV.fetch('PORT', 9292)}"
