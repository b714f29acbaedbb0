# A cluster of two workers that writes its master's pid where the app finds it: $PIDFILE, which is
# made up next to the system's temporary files when it is not given.
require "tmpdir"
rackup File.expand_path("config.ru", __dir__)
environment "production"
bind "tcp://127.0.0.1:#{ENV.fetch('PORT', 9292)}"
workers 2
ENV["PIDFILE"] ||= File.join(Dir.tmpdir, "probe-repro-#{Process.pid}.pid")
pidfile ENV["PIDFILE"]
