"""What of the models that people use can be initialised: suites of models, measured one by one."""
