@echo off
rem Install the course from this folder, without a network.
py "%~dp0install.py" %*
