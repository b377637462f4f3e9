"""The Ray clusters that trials run on: join or start one, submit jobs to it, and render its configuration files."""
