"""Ansible plugins: thin adapters over the packages beside this one."""
