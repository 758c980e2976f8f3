"""The `quatrain` command: thin commands over the rooms of core and of every installed app."""
