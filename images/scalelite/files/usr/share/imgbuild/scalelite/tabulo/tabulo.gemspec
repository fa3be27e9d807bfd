# frozen_string_literal: true

# tabulo's own gemspec lists its files with git, and wants unicode-display_width 2.2 where Debian has
# 1.6; what it calls of it, UnicodeDisplayWidth.of, both have. The code is upstream's, as it is.
Gem::Specification.new do |gem|
  gem.name = "tabulo"
  gem.version = "2.8.2"
  gem.summary = "Plain text table generator"
  gem.authors = ["Matthew Harvey"]
  gem.license = "MIT"
  gem.require_paths = ["../../../tabulo/lib"]
  gem.add_dependency "tty-screen", "~> 0.8"
  gem.add_dependency "unicode-display_width", ">= 1.6", "< 3"
end
